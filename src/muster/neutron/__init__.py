"""The IPAM driver for a stock OpenStack Neutron: Muster's allocation of addresses inside Neutron's own processes.

Synchronous, because Neutron is. Only `driver`, `database`, `options` and `command` import libraries of OpenStack; the
rest needs SQLAlchemy (1.4 or later), Tooz, urllib3 and msgspec, and nothing else that Muster depends on: it can stand
beside the versions that a Neutron has pinned. See docs/neutron.md and docs/decisions/0008-neutron-transactions.md.
"""
