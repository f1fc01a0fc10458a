"""How long DHCP leases last, in seconds: by default, and at least, since dnsmasq gives none for less."""

LEASE_S, SHORTEST_LEASE_S = 86_400, 120
