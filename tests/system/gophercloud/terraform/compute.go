package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/attachinterfaces"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/availabilityzones"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/keypairs"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/schedulerhints"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/secgroups"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/servergroups"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/startstop"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/tags"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/images"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/ports"
)

// at is the compute client for one call in another microversion.
func (c *cloud) at(microversion string) *gophercloud.ServiceClient {
	client := *c.compute
	client.Microversion = microversion
	return &client
}

// flavorNamed is the data source openstack_compute_flavor_v2.
func (c *cloud) flavorNamed(name string) resource {
	find := func() (flavors.Flavor, error) {
		pages, err := flavors.ListDetail(c.compute, flavors.ListOpts{AccessType: flavors.AllAccess}).AllPages()
		if err != nil {
			return flavors.Flavor{}, err
		}
		all, err := flavors.ExtractFlavors(pages)
		for _, one := range all {
			if one.Name == name {
				return one, err
			}
		}
		return flavors.Flavor{}, fmt.Errorf("no flavor %s: %v", name, err)
	}
	return dataSource("flavor "+name, func() (string, error) {
		flavor, err := find()
		return flavor.ID, err
	}, func() (state, error) {
		flavor, err := find()
		if err != nil {
			return nil, err
		}
		specs, err := flavors.ListExtraSpecs(c.compute, flavor.ID).Extract()
		return state{"flavor": flavor, "extra_specs": specs}, err
	})
}

// dataSource is something that is only looked up.
func dataSource(name string, id func() (string, error), read func() (state, error)) resource {
	destroyed := false
	return resource{
		name:   name,
		create: id,
		read: func(string) (state, error) {
			if destroyed {
				return nil, gophercloud.ErrDefault404{}
			}
			return read()
		},
		delete: func(string) error {
			destroyed = true // a data source is only forgotten
			return nil
		},
	}
}

// keyPair is openstack_compute_keypair_v2; without a public key the cloud makes both.
func (c *cloud) keyPair(name, publicKey string) resource {
	wanted := state{"name": name}
	if publicKey != "" {
		wanted["public_key"] = publicKey
	}
	return resource{
		name: name,
		create: func() (string, error) {
			made, err := keypairs.Create(c.compute, keypairs.CreateOpts{Name: name, PublicKey: publicKey}).Extract()
			if err == nil && publicKey == "" && !strings.Contains(made.PrivateKey, "PRIVATE KEY") {
				err = fmt.Errorf("no private key")
			}
			return name, err
		},
		read: func(id string) (state, error) {
			found, err := keypairs.Get(c.compute, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"name": found.Name, "public_key": found.PublicKey, "fingerprint": found.Fingerprint,
				"user_id": found.UserID}, nil
		},
		wanted: wanted,
		delete: func(id string) error { return keypairs.Delete(c.compute, id).ExtractErr() },
	}
}

// serverGroup is openstack_compute_servergroup_v2.
func (c *cloud) serverGroup(name, policy string) resource {
	client := c.at("2.15") // since which there are the policies whose names begin with soft
	return resource{
		name: name,
		create: func() (string, error) {
			made, err := servergroups.Create(client, servergroups.CreateOpts{Name: name, Policies: []string{policy}}).Extract()
			if err != nil {
				return "", err
			}
			return made.ID, nil
		},
		read: func(id string) (state, error) {
			found, err := servergroups.Get(client, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"name": found.Name, "policies": found.Policies}, nil // members are another resource's
		},
		wanted: state{"name": name, "policies": []string{policy}},
		delete: func(id string) error { return servergroups.Delete(client, id).ExtractErr() },
	}
}

// withTags adds to a new server what this gophercloud has no field for.
type withTags struct {
	servers.CreateOptsBuilder
	tags []string
}

func (options withTags) ToServerCreateMap() (map[string]interface{}, error) {
	body, err := options.CreateOptsBuilder.ToServerCreateMap()
	if err == nil {
		body["server"].(map[string]interface{})["tags"] = options.tags
	}
	return body, err
}

// server is openstack_compute_instance_v2 with a port.
func (c *cloud) server(name, image, flavor, key, group, port, securityGroup string) resource {
	return resource{
		name: name,
		create: func() (string, error) {
			if err := c.networkOf(c.ids[port]); err != nil {
				return "", err
			}
			drive := true
			var options servers.CreateOptsBuilder = servers.CreateOpts{
				Name: name, ImageRef: c.ids[image], FlavorRef: c.ids[flavor], ConfigDrive: &drive,
				Networks: []servers.Network{{Port: c.ids[port]}},
				Metadata: map[string]string{"role": "web", "old": "yes"},
				UserData: []byte("#!/bin/sh\n"),
				Personality: servers.Personality{
					&servers.File{Path: "/etc/motd", Contents: []byte("hello\n")}},
			}
			options = keypairs.CreateOptsExt{CreateOptsBuilder: options, KeyName: key}
			options = schedulerhints.CreateOptsExt{CreateOptsBuilder: options,
				SchedulerHints: schedulerhints.SchedulerHints{Group: c.ids[group]}}
			made, err := servers.Create(c.at("2.52"), withTags{options, []string{"b", "a"}}).Extract()
			if err != nil {
				return "", err
			}
			return made.ID, wait(c.statusOf(made.ID), "ACTIVE", "BUILD")
		},
		read: c.readServer,
		wanted: state{"name": name, "key_pair": key, "power_state": "active", "all_tags": []string{"a", "b"},
			"all_metadata": map[string]string{"role": "web", "old": "yes"}, "security_groups": []string{securityGroup}},
		change: func(id string) (state, error) { return c.changeServer(id, name+"-2", image, securityGroup+"-2") },
		delete: func(id string) error {
			if err := servers.Delete(c.compute, id).ExtractErr(); err != nil {
				return err
			}
			return wait(c.statusOf(id), "DELETED", "ACTIVE", "SHUTOFF")
		},
	}
}

// networkOf looks for a port's network as the provider does before it makes a server: by filters, not by id.
func (c *cloud) networkOf(port string) error {
	pages, err := ports.List(c.network, ports.ListOpts{ID: port}).AllPages()
	if err != nil {
		return err
	}
	found, err := ports.ExtractPorts(pages)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%d ports %s: %v", len(found), port, err)
	}
	pages, err = networks.List(c.network, networks.ListOpts{ID: found[0].NetworkID, Status: "ACTIVE"}).AllPages()
	if err != nil {
		return err
	}
	nets, err := networks.ExtractNetworks(pages)
	if err == nil && len(nets) != 1 {
		err = fmt.Errorf("%d networks %s", len(nets), found[0].NetworkID)
	}
	return err
}

func (c *cloud) statusOf(id string) func() (string, error) {
	return func() (string, error) {
		found, err := servers.Get(c.compute, id).Extract()
		if isGone(err) {
			return "DELETED", nil
		}
		if err != nil {
			return "", err
		}
		return found.Status, nil
	}
}

func (c *cloud) readServer(id string) (state, error) {
	var found struct {
		servers.Server
		availabilityzones.ServerAvailabilityZoneExt
	}
	if err := servers.Get(c.compute, id).ExtractInto(&found); err != nil {
		return nil, err
	}
	flavor, err := flavors.Get(c.compute, found.Flavor["id"].(string)).Extract()
	if err != nil {
		return nil, err
	}
	image, err := images.Get(c.image, found.Image["id"].(string)).Extract()
	if err != nil {
		return nil, err
	}
	itsTags, err := tags.List(c.at("2.26"), id).Extract()
	if err != nil {
		return nil, err
	}
	metadata, err := servers.Metadata(c.compute, id).Extract()
	if err != nil {
		return nil, err
	}
	sort.Strings(itsTags)
	groups := []string{}
	for _, one := range found.SecurityGroups {
		groups = append(groups, one["name"].(string))
	}
	sort.Strings(groups)
	return state{"name": found.Name, "network": found.Addresses, "access_ip_v4": found.AccessIPv4,
		"access_ip_v6": found.AccessIPv6, "all_metadata": found.Metadata, "metadata": metadata,
		"security_groups": groups, "key_pair": found.KeyName, "flavor_name": flavor.Name, "image_name": image.Name,
		"availability_zone": found.AvailabilityZone, "power_state": strings.ToLower(found.Status),
		"all_tags": itsTags, "created": found.Created}, nil
}

// changeServer changes what the provider changes in place, in its order.
func (c *cloud) changeServer(id, name, image, securityGroup string) (state, error) {
	if _, err := servers.Update(c.compute, id, servers.UpdateOpts{Name: name}).Extract(); err != nil {
		return nil, err
	}
	if err := startstop.Stop(c.compute, id).ExtractErr(); err != nil {
		return nil, err
	}
	if err := wait(c.statusOf(id), "SHUTOFF"); err != nil {
		return nil, err
	}
	if err := startstop.Start(c.compute, id).ExtractErr(); err != nil {
		return nil, err
	}
	if err := wait(c.statusOf(id), "ACTIVE"); err != nil {
		return nil, err
	}
	if err := servers.DeleteMetadatum(c.compute, id, "old").ExtractErr(); err != nil {
		return nil, err
	}
	options := servers.MetadataOpts{"role": "database", "new": "yes"}
	if _, err := servers.UpdateMetadata(c.compute, id, options).Extract(); err != nil {
		return nil, err
	}
	if err := secgroups.RemoveServer(c.compute, id, securityGroup).ExtractErr(); err != nil {
		return nil, err
	}
	if err := secgroups.AddServer(c.compute, id, "default").ExtractErr(); err != nil {
		return nil, err
	}
	rebuild := servers.RebuildOpts{ImageRef: c.ids[image],
		Personality: servers.Personality{&servers.File{Path: "/etc/motd", Contents: []byte("again\n")}}}
	if _, err := servers.Rebuild(c.compute, id, rebuild).Extract(); err != nil {
		return nil, err
	}
	if err := wait(c.statusOf(id), "ACTIVE", "REBUILD"); err != nil {
		return nil, err
	}
	_, err := tags.ReplaceAll(c.at("2.26"), id, tags.ReplaceAllOpts{Tags: []string{"c"}}).Extract()
	return state{"name": name, "power_state": "active", "all_tags": []string{"c"},
		"all_metadata":    map[string]string{"role": "database", "new": "yes"},
		"security_groups": []string{"default"}}, err
}

// interfaceAttach is openstack_compute_interface_attach_v2.
func (c *cloud) interfaceAttach(name, server, port string) resource {
	get := func() (*attachinterfaces.Interface, error) {
		return attachinterfaces.Get(c.compute, c.ids[server], c.ids[port]).Extract()
	}
	return resource{
		name: name,
		create: func() (string, error) {
			options := attachinterfaces.CreateOpts{PortID: c.ids[port]}
			made, err := attachinterfaces.Create(c.compute, c.ids[server], options).Extract()
			if err != nil {
				return "", err
			}
			return made.PortID, wait(func() (string, error) {
				_, err := get()
				if isGone(err) {
					return "ATTACHING", nil
				}
				return "ATTACHED", err
			}, "ATTACHED", "ATTACHING")
		},
		read: func(string) (state, error) {
			found, err := get()
			if err != nil {
				return nil, err
			}
			return state{"port_id": found.PortID, "network_id": found.NetID, "fixed_ip": found.FixedIPs}, nil
		},
		delete: func(id string) error {
			return gone(
				func() error { _, err := get(); return err },
				func() error { return attachinterfaces.Delete(c.compute, c.ids[server], id).ExtractErr() })
		},
	}
}
