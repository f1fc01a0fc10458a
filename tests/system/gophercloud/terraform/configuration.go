package main

import (
	"os"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/subnets"
)

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8Ht8Z3j6yDWPBHQtOp/R9rjWvfMYo3MSA/K6q8D86r terraform"

// configuration is all that is made, each after what it refers to.
func (c *cloud) configuration() []resource {
	gateway, gateway6 := "10.250.0.1", "fd00:250::1"
	v4 := subnets.CreateOpts{IPVersion: gophercloud.IPv4, CIDR: "10.250.0.0/24", GatewayIP: &gateway,
		DNSNameservers:  []string{"192.0.2.53"},
		AllocationPools: []subnets.AllocationPool{{Start: "10.250.0.10", End: "10.250.0.200"}},
		HostRoutes:      []subnets.HostRoute{{DestinationCIDR: "192.0.2.0/24", NextHop: "10.250.0.9"}}}
	v6 := subnets.CreateOpts{IPVersion: gophercloud.IPv6, CIDR: "fd00:250::/64", GatewayIP: &gateway6,
		IPv6AddressMode: "slaac", IPv6RAMode: "slaac"}
	ssh := rules.CreateOpts{Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP,
		PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: "0.0.0.0/0", Description: "ssh"}
	ping := rules.CreateOpts{Direction: rules.DirIngress, EtherType: rules.EtherType6, Protocol: rules.ProtocolIPv6ICMP}
	inside := rules.CreateOpts{Direction: rules.DirIngress, EtherType: rules.EtherType4}
	image, flavor := "image "+os.Getenv("IMAGE"), "flavor "+os.Getenv("FLAVOR")
	ofAdministrators := []resource{
		c.project("tf-project"),
		c.computeQuota("tf-quota", "tf-project"),
		c.networkQuota("tf-network-quota", "tf-project"),
	}
	all := []resource{
		c.imageNamed(os.Getenv("IMAGE")),
		c.flavorNamed(os.Getenv("FLAVOR")),
		c.uploadedImage("tf-image"),
		c.keyPair("tf-key", publicKey),
		c.keyPair("tf-made-key", ""),
		c.securityGroup("tf-group"),
		c.rule("tf-ssh", "tf-group", "", ssh),
		c.rule("tf-ping", "tf-group", "", ping),
		c.rule("tf-inside", "tf-group", "tf-group", inside),
		c.net("tf-network"),
		c.subnet("tf-subnet", "tf-network", v4, state{"cidr": v4.CIDR, "ip_version": 4, "gateway_ip": gateway,
			"dns_nameservers": v4.DNSNameservers, "allocation_pool": v4.AllocationPools, "host_routes": v4.HostRoutes,
			"all_tags": []string{"a"}}),
		c.subnet("tf-subnet6", "tf-network", v6, state{"cidr": v6.CIDR, "ip_version": 6, "gateway_ip": gateway6,
			"ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac", "enable_dhcp": true}),
		c.port("tf-port", "tf-network", "tf-subnet", "tf-subnet6", "tf-group", "10.250.0.50"),
		c.port("tf-second-port", "tf-network", "tf-subnet", "tf-subnet6", "tf-group", ""),
		c.serverGroup("tf-apart", "soft-anti-affinity"),
		c.server("tf-server", image, flavor, "tf-key", "tf-apart", "tf-port", "tf-group"),
		c.interfaceAttach("tf-attached", "tf-server", "tf-second-port"),
	}
	if os.Getenv("ADMIN") != "" {
		all = append(all, ofAdministrators...)
	}
	return all
}
