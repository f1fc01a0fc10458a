package main

import (
	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack/compute/v2/extensions/quotasets"
	"github.com/gophercloud/gophercloud/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/openstack/networking/v2/extensions/quotas"
)

// project is openstack_identity_project_v3.
func (c *cloud) project(name string) resource {
	return resource{
		name: name,
		create: func() (string, error) {
			options := projects.CreateOpts{Name: name, Description: "d", Enabled: &yes, Tags: []string{"a"}}
			made, err := projects.Create(c.identity, options).Extract()
			if err != nil {
				return "", err
			}
			return made.ID, nil
		},
		read: func(id string) (state, error) {
			found, err := projects.Get(c.identity, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"name": found.Name, "description": found.Description, "domain_id": found.DomainID,
				"enabled": found.Enabled, "is_domain": found.IsDomain, "parent_id": found.ParentID,
				"tags": found.Tags}, nil
		},
		wanted: state{"name": name, "description": "d", "enabled": true, "is_domain": false, "tags": []string{"a"}},
		change: func(id string) (state, error) {
			other := ""
			options := projects.UpdateOpts{Name: name + "-2", Description: &other, Tags: &[]string{}}
			_, err := projects.Update(c.identity, id, options).Extract()
			return state{"name": name + "-2", "description": "", "tags": []string{}}, err
		},
		delete: func(id string) error { return projects.Delete(c.identity, id).ExtractErr() },
	}
}

// computeQuota is openstack_compute_quotaset_v2, which is only forgotten when it is destroyed.
func (c *cloud) computeQuota(name, project string) resource {
	return quota(name, state{"instances": 7, "cores": 8, "ram": 512}, state{"instances": 9, "cores": 8, "ram": 512},
		func(id string) (state, error) {
			found, err := quotasets.Get(c.compute, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"instances": found.Instances, "cores": found.Cores, "ram": found.RAM,
				"key_pairs": found.KeyPairs, "metadata_items": found.MetadataItems,
				"server_groups": found.ServerGroups, "injected_files": found.InjectedFiles}, nil
		},
		func(wanted state) (string, error) {
			options := quotasets.UpdateOpts{Instances: gophercloud.IntToPointer(wanted["instances"].(int)),
				Cores: gophercloud.IntToPointer(8), RAM: gophercloud.IntToPointer(512)}
			return c.ids[project], quotasets.Update(c.compute, c.ids[project], options).Err
		})
}

// networkQuota is openstack_networking_quota_v2, likewise.
func (c *cloud) networkQuota(name, project string) resource {
	return quota(name, state{"network": 3, "port": 4}, state{"network": 5, "port": 4},
		func(id string) (state, error) {
			found, err := quotas.Get(c.network, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"network": found.Network, "port": found.Port, "subnet": found.Subnet,
				"security_group": found.SecurityGroup, "security_group_rule": found.SecurityGroupRule}, nil
		},
		func(wanted state) (string, error) {
			options := quotas.UpdateOpts{Network: gophercloud.IntToPointer(wanted["network"].(int)),
				Port: gophercloud.IntToPointer(4)}
			return c.ids[project], quotas.Update(c.network, c.ids[project], options).Err
		})
}

// quota is what both have in common; the id is the project's.
func quota(name string, first, second state, read func(string) (state, error), set func(state) (string, error)) resource {
	forgotten := false
	return resource{
		name:   name,
		create: func() (string, error) { return set(first) },
		read: func(id string) (state, error) {
			if forgotten {
				return nil, gophercloud.ErrDefault404{}
			}
			return read(id)
		},
		wanted: first,
		change: func(string) (state, error) { _, err := set(second); return second, err },
		delete: func(string) error { forgotten = true; return nil },
	}
}
