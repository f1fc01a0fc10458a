package main

import (
	"sort"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/dns"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/extradhcpopts"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/mtu"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/vlantransparent"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/subnets"
)

var yes = true

// tagged replaces a resource's tags, which the provider does after each creation and change.
func (c *cloud) tagged(kind, id string, tags ...string) error {
	options := attributestags.ReplaceAllOpts{Tags: append([]string{}, tags...)} // none is an empty list, not null
	_, err := attributestags.ReplaceAll(c.network, kind, id, options).Extract()
	return err
}

// securityGroup is openstack_networking_secgroup_v2 with delete_default_rules.
func (c *cloud) securityGroup(name string) resource {
	return resource{
		name: name,
		create: func() (string, error) {
			made, err := groups.Create(c.network, groups.CreateOpts{Name: name, Description: "d"}).Extract()
			if err != nil {
				return "", err
			}
			if made, err = groups.Get(c.network, made.ID).Extract(); err != nil {
				return "", err
			}
			for _, rule := range made.Rules {
				if err := rules.Delete(c.network, rule.ID).ExtractErr(); err != nil {
					return "", err
				}
			}
			return made.ID, c.tagged("security-groups", made.ID, "b", "a")
		},
		read: func(id string) (state, error) {
			found, err := groups.Get(c.network, id).Extract()
			if err != nil {
				return nil, err
			}
			sort.Strings(found.Tags)
			return state{"name": found.Name, "description": found.Description, "tenant_id": found.TenantID,
				"all_tags": found.Tags}, nil
		},
		wanted: state{"name": name, "description": "d", "all_tags": []string{"a", "b"}},
		change: func(id string) (state, error) {
			other := ""
			options := groups.UpdateOpts{Name: name + "-2", Description: &other}
			if _, err := groups.Update(c.network, id, options).Extract(); err != nil {
				return nil, err
			}
			return state{"name": name + "-2", "description": "", "all_tags": []string{}}, c.tagged("security-groups", id)
		},
		delete: func(id string) error {
			return gone(
				func() error { return groups.Get(c.network, id).Err },
				func() error { return groups.Delete(c.network, id).ExtractErr() })
		},
	}
}

// rule is openstack_networking_secgroup_rule_v2 in a group; remote names another, or is empty.
func (c *cloud) rule(name, group, remote string, options rules.CreateOpts) resource {
	return resource{
		name: name,
		create: func() (string, error) {
			options.SecGroupID, options.RemoteGroupID = c.ids[group], c.ids[remote]
			made, err := rules.Create(c.network, options).Extract()
			if err != nil {
				return "", err
			}
			return made.ID, nil
		},
		read: func(id string) (state, error) {
			found, err := rules.Get(c.network, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"direction": found.Direction, "ethertype": found.EtherType, "protocol": found.Protocol,
				"port_range_min": found.PortRangeMin, "port_range_max": found.PortRangeMax,
				"remote_ip_prefix": found.RemoteIPPrefix, "remote_group_id": found.RemoteGroupID,
				"security_group_id": found.SecGroupID, "description": found.Description}, nil
		},
		wanted: state{"direction": options.Direction, "ethertype": options.EtherType, "protocol": options.Protocol,
			"port_range_min": options.PortRangeMin, "port_range_max": options.PortRangeMax,
			"remote_ip_prefix": options.RemoteIPPrefix, "description": options.Description},
		delete: func(id string) error {
			if err := rules.Delete(c.network, id).ExtractErr(); err != nil {
				return err
			}
			return gone(
				func() error { return rules.Get(c.network, id).Err },
				func() error { return rules.Delete(c.network, id).ExtractErr() })
		},
	}
}

// net is openstack_networking_network_v2.
func (c *cloud) net(name string) resource {
	type extended struct {
		networks.Network
		external.NetworkExternalExt
		vlantransparent.TransparentExt
		portsecurity.PortSecurityExt
		mtu.NetworkMTUExt
		dns.NetworkDNSExt
	}
	get := func(id string) (extended, error) {
		var found extended
		return found, networks.Get(c.network, id).ExtractInto(&found)
	}
	return resource{
		name: name,
		create: func() (string, error) {
			var options networks.CreateOptsBuilder = networks.CreateOpts{Name: name, Description: "d", AdminStateUp: &yes}
			options = portsecurity.NetworkCreateOptsExt{CreateOptsBuilder: options, PortSecurityEnabled: &yes}
			options = mtu.CreateOptsExt{CreateOptsBuilder: options, MTU: 1400}
			made, err := networks.Create(c.network, options).Extract()
			if err != nil {
				return "", err
			}
			refresh := func() (string, error) {
				found, err := get(made.ID)
				return found.Status, err
			}
			if err := wait(refresh, "ACTIVE", "BUILD", "DOWN"); err != nil {
				return "", err
			}
			return made.ID, c.tagged("networks", made.ID, "a")
		},
		read: func(id string) (state, error) {
			found, err := get(id)
			return state{"name": found.Name, "description": found.Description, "admin_state_up": found.AdminStateUp,
				"shared": found.Shared, "external": found.External, "tenant_id": found.TenantID, "mtu": found.MTU,
				"transparent_vlan": found.VLANTransparent, "port_security_enabled": found.PortSecurityEnabled,
				"dns_domain": found.DNSDomain, "availability_zone_hints": found.AvailabilityZoneHints,
				"all_tags": found.Tags}, err
		},
		wanted: state{"name": name, "description": "d", "admin_state_up": true, "shared": false, "external": false,
			"mtu": 1400, "port_security_enabled": true, "all_tags": []string{"a"}},
		change: func(id string) (state, error) {
			other := name + "-2"
			var options networks.UpdateOptsBuilder = networks.UpdateOpts{Name: &other}
			options = mtu.UpdateOptsExt{UpdateOptsBuilder: options, MTU: 1300}
			if _, err := networks.Update(c.network, id, options).Extract(); err != nil {
				return nil, err
			}
			return state{"name": other, "mtu": 1300, "all_tags": []string{"b"}}, c.tagged("networks", id, "b")
		},
		delete: func(id string) error {
			return gone(
				func() error { return networks.Get(c.network, id).Err },
				func() error { return networks.Delete(c.network, id).ExtractErr() })
		},
	}
}

// subnet is openstack_networking_subnet_v2 on a network.
func (c *cloud) subnet(name, network string, options subnets.CreateOpts, wanted state) resource {
	return resource{
		name: name,
		create: func() (string, error) {
			options.Name, options.NetworkID, options.EnableDHCP = name, c.ids[network], &yes
			made, err := subnets.Create(c.network, options).Extract()
			if err != nil {
				return "", err
			}
			return made.ID, c.tagged("subnets", made.ID, "a")
		},
		read: func(id string) (state, error) {
			found, err := subnets.Get(c.network, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"name": found.Name, "network_id": found.NetworkID, "cidr": found.CIDR,
				"ip_version": found.IPVersion, "gateway_ip": found.GatewayIP, "dns_nameservers": found.DNSNameservers,
				"allocation_pool": found.AllocationPools, "host_routes": found.HostRoutes,
				"enable_dhcp": found.EnableDHCP, "ipv6_address_mode": found.IPv6AddressMode,
				"ipv6_ra_mode": found.IPv6RAMode, "subnetpool_id": found.SubnetPoolID, "all_tags": found.Tags}, nil
		},
		wanted: wanted,
		change: func(id string) (state, error) {
			other, servers := name+"-2", []string{}
			changes := subnets.UpdateOpts{Name: &other, DNSNameservers: &servers}
			_, err := subnets.Update(c.network, id, changes).Extract()
			return state{"name": other, "dns_nameservers": servers, "cidr": options.CIDR}, err
		},
		delete: func(id string) error {
			return gone(
				func() error { return subnets.Get(c.network, id).Err },
				func() error { return subnets.Delete(c.network, id).ExtractErr() })
		},
	}
}

// port is openstack_networking_port_v2 in two subnets, with an address of its own in the first.
func (c *cloud) port(name, network, first, second, group, address string) resource {
	type extended struct {
		ports.Port
		extradhcpopts.ExtraDHCPOptsExt
		portsecurity.PortSecurityExt
		portsbinding.PortsBindingExt
		dns.PortDNSExt
	}
	get := func(id string) (extended, error) {
		var found extended
		return found, ports.Get(c.network, id).ExtractInto(&found)
	}
	pair := ports.AddressPair{IPAddress: "10.250.0.99"}
	return resource{
		name: name,
		create: func() (string, error) {
			var options ports.CreateOptsBuilder = ports.CreateOpts{
				Name: name, NetworkID: c.ids[network], AdminStateUp: &yes,
				FixedIPs:            []ports.IP{{SubnetID: c.ids[first], IPAddress: address}, {SubnetID: c.ids[second]}},
				SecurityGroups:      &[]string{c.ids[group]},
				AllowedAddressPairs: []ports.AddressPair{pair},
			}
			options = extradhcpopts.CreateOptsExt{CreateOptsBuilder: options,
				ExtraDHCPOpts: []extradhcpopts.CreateExtraDHCPOpt{
					{OptName: "mtu", OptValue: "1300", IPVersion: gophercloud.IPv4}}}
			options = portsecurity.PortCreateOptsExt{CreateOptsBuilder: options, PortSecurityEnabled: &yes}
			var made extended
			if err := ports.Create(c.network, options).ExtractInto(&made); err != nil {
				return "", err
			}
			refresh := func() (string, error) {
				found, err := get(made.ID)
				return found.Status, err
			}
			if err := wait(refresh, "DOWN", "BUILD"); err != nil {
				return "", err
			}
			return made.ID, c.tagged("ports", made.ID, "a")
		},
		read: func(id string) (state, error) {
			found, err := get(id)
			pairs := []state{}
			for _, one := range found.AllowedAddressPairs {
				// The provider leaves a pair's address away where it is the port's own.
				pairs = append(pairs, state{"ip_address": one.IPAddress, "own_mac": one.MACAddress == found.MACAddress})
			}
			return state{"name": found.Name, "network_id": found.NetworkID, "admin_state_up": found.AdminStateUp,
				"mac_address": found.MACAddress, "device_owner": found.DeviceOwner, "device_id": found.DeviceID,
				"all_fixed_ips": found.FixedIPs, "all_security_group_ids": found.SecurityGroups,
				"allowed_address_pairs": pairs, "extra_dhcp_option": found.ExtraDHCPOpts,
				"port_security_enabled": found.PortSecurityEnabled, "dns_name": found.DNSName,
				"dns_assignment": found.DNSAssignment, "all_tags": found.Tags, "vnic_type": found.VNICType,
				"host_id": found.HostID, "vif_type": found.VIFType, "profile": found.Profile}, err
		},
		wanted: state{"name": name, "admin_state_up": true, "vnic_type": "normal", "all_tags": []string{"a"},
			"allowed_address_pairs": []state{{"ip_address": pair.IPAddress, "own_mac": true}},
			"extra_dhcp_option":     []extradhcpopts.ExtraDHCPOpt{{OptName: "mtu", OptValue: "1300", IPVersion: 4}}},
		change: func(id string) (state, error) {
			other, value := name+"-2", "eth"
			options := extradhcpopts.UpdateOptsExt{
				UpdateOptsBuilder: ports.UpdateOpts{Name: &other, AllowedAddressPairs: &[]ports.AddressPair{}},
				ExtraDHCPOpts: []extradhcpopts.UpdateExtraDHCPOpt{
					{OptName: "domain-name", OptValue: &value, IPVersion: gophercloud.IPv4}, {OptName: "mtu"}}}
			_, err := ports.Update(c.network, id, options).Extract()
			return state{"name": other, "allowed_address_pairs": []state{},
				"extra_dhcp_option": []extradhcpopts.ExtraDHCPOpt{{OptName: "domain-name", OptValue: value, IPVersion: 4}}}, err
		},
		delete: func(id string) error {
			return gone(
				func() error { return ports.Get(c.network, id).Err },
				func() error { return ports.Delete(c.network, id).ExtractErr() })
		},
	}
}
