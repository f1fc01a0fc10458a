// Does with a cloud what `terraform apply`, a second `plan`, an `apply` of a changed configuration and `destroy` do.
//
// The calls, their order, what is waited for and what is made of 404 and 409 are those of Terraform's OpenStack provider
// (terraform-provider-openstack), which is written on the same library, gophercloud; so is how it finds the cloud
// (OS_CLOUD in clouds.yaml). Ends with status 1 at the first difference or error, and says what it did line by line.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/utils/terraform/auth"
)

const (
	pollEvery = 100 * time.Millisecond // the provider waits for 3 s; more polls see more of the states in between
	patience  = 5 * time.Minute
)

// state is what a resource's Read puts into Terraform's state, or what a configuration says of it.
type state map[string]interface{}

// resource is one block of a configuration. Its functions get the id that create returned.
type resource struct {
	name   string
	create func() (string, error)
	read   func(id string) (state, error)
	wanted state                          // what the configuration says
	change func(id string) (state, error) // to another configuration, and what that says; nil: only made anew
	delete func(id string) error
}

// cloud has the provider's clients, and the ids of what was made, by the resources' names.
type cloud struct {
	identity, compute, network, image *gophercloud.ServiceClient
	ids                               map[string]string
}

func main() {
	log.SetOutput(os.Stderr)
	log.SetFlags(0)
	c, err := connected()
	stopIf(err)
	all := c.configuration()

	for i := range all {
		id, err := all[i].create()
		stopIf(wrapped(all[i].name, "create", err))
		c.ids[all[i].name] = id
		fmt.Println("created", all[i].name)
	}
	c.plan(all)
	for i := range all {
		if all[i].change == nil {
			continue
		}
		wanted, err := all[i].change(c.ids[all[i].name])
		stopIf(wrapped(all[i].name, "change", err))
		all[i].wanted = wanted
		fmt.Println("changed", all[i].name)
	}
	c.plan(all)
	for i := len(all) - 1; i >= 0; i-- {
		one := all[i]
		stopIf(wrapped(one.name, "delete", one.delete(c.ids[one.name])))
		if _, err := one.read(c.ids[one.name]); !isGone(err) {
			stopIf(fmt.Errorf("%s is still there: %v", one.name, err))
		}
		fmt.Println("destroyed", one.name)
	}
}

func connected() (*cloud, error) {
	config := auth.Config{Cloud: os.Getenv("OS_CLOUD"), AllowReauth: true, DelayedAuth: true}
	if err := config.LoadAndValidate(); err != nil {
		return nil, err
	}
	identity, err := config.IdentityV3Client(config.Region)
	if err != nil {
		return nil, err
	}
	compute, err := config.ComputeV2Client(config.Region)
	if err != nil {
		return nil, err
	}
	network, err := config.NetworkingV2Client(config.Region)
	if err != nil {
		return nil, err
	}
	image, err := config.ImageV2Client(config.Region)
	return &cloud{identity, compute, network, image, map[string]string{}}, err
}

// plan reads everything, as `terraform plan` does: all is as the configuration says, and stays as it was read.
func (c *cloud) plan(all []resource) {
	states := c.refreshed(all)
	for name, now := range c.refreshed(all) {
		if now != states[name] {
			stopIf(fmt.Errorf("%s has changed by itself\nfrom %s\nto   %s", name, states[name], now))
		}
	}
	fmt.Println("no changes")
}

// refreshed reads all resources: their states as text, by name. A difference from the configuration is an error.
func (c *cloud) refreshed(all []resource) map[string]string {
	states := map[string]string{}
	for _, one := range all {
		found, err := one.read(c.ids[one.name])
		stopIf(wrapped(one.name, "read", err))
		for key, value := range one.wanted {
			if asText(found[key]) != asText(value) {
				stopIf(fmt.Errorf("%s: %s is %s, not %s", one.name, key, asText(found[key]), asText(value)))
			}
		}
		states[one.name] = asText(found)
	}
	return states
}

// wait polls until the target is reached. As with the provider another state than the pending ones is an error,
// unless none are named.
func wait(refresh func() (string, error), target string, pending ...string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pollEvery) {
		now, err := refresh()
		if err != nil {
			return err
		}
		if now == target {
			return nil
		}
		known := len(pending) == 0
		for _, one := range pending {
			known = known || one == now
		}
		if !known {
			return fmt.Errorf("unexpected state %q, not %v nor %q", now, pending, target)
		}
	}
	return fmt.Errorf("timeout: not %s", target)
}

// gone deletes, and waits until it is not found any more; 409 is tried again, as it is by the provider.
func gone(get, delete func() error) error {
	return wait(func() (string, error) {
		err := get()
		if err == nil {
			err = delete()
		}
		if isGone(err) {
			return "DELETED", nil
		}
		if _, inUse := err.(gophercloud.ErrDefault409); inUse {
			err = nil
		}
		return "ACTIVE", err
	}, "DELETED", "ACTIVE")
}

func isGone(err error) bool {
	_, is := err.(gophercloud.ErrDefault404)
	return is
}

func asText(value interface{}) string {
	text, err := json.Marshal(value)
	stopIf(err)
	return string(text)
}

func wrapped(name, verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %v", verb, name, err)
}

func stopIf(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
