package main

import (
	"fmt"
	"strings"

	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/imagedata"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/images"
)

// imageNamed is the data source openstack_images_image_v2.
func (c *cloud) imageNamed(name string) resource {
	find := func() (images.Image, error) {
		pages, err := images.List(c.image, images.ListOpts{Name: name, SortKey: "name", SortDir: "asc"}).AllPages()
		if err != nil {
			return images.Image{}, err
		}
		found, err := images.ExtractImages(pages)
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("%d images %s", len(found), name)
		}
		if err != nil {
			return images.Image{}, err
		}
		return found[0], nil
	}
	return dataSource("image "+name, func() (string, error) {
		image, err := find()
		return image.ID, err
	}, func() (state, error) {
		one, err := find()
		return state{"name": one.Name, "status": one.Status, "visibility": one.Visibility, "owner": one.Owner,
			"checksum": one.Checksum, "size_bytes": one.SizeBytes, "min_disk_gb": one.MinDiskGigabytes,
			"min_ram_mb": one.MinRAMMegabytes, "container_format": one.ContainerFormat, "disk_format": one.DiskFormat,
			"protected": one.Protected, "tags": one.Tags, "metadata": one.Metadata,
			"created_at": one.CreatedAt, "updated_at": one.UpdatedAt, "file": one.File, "schema": one.Schema}, err
	})
}

// uploadedImage is openstack_images_image_v2 with a local file.
func (c *cloud) uploadedImage(name string) resource {
	private := images.ImageVisibilityPrivate
	return resource{
		name: name,
		create: func() (string, error) {
			made, err := images.Create(c.image, images.CreateOpts{Name: name, ContainerFormat: "bare", DiskFormat: "raw",
				MinDisk: 1, MinRAM: 64, Visibility: &private, Tags: []string{"a"},
				Properties: map[string]string{"os_distro": "debian", "own": "1"}}).Extract()
			if err != nil {
				return "", err
			}
			content := strings.NewReader(strings.Repeat("\x00", 1024))
			if err := imagedata.Upload(c.image, made.ID, content).ExtractErr(); err != nil {
				return "", err
			}
			return made.ID, wait(func() (string, error) {
				found, err := images.Get(c.image, made.ID).Extract()
				if err != nil {
					return "", err
				}
				return string(found.Status), nil
			}, "active", "queued", "saving")
		},
		read: func(id string) (state, error) {
			found, err := images.Get(c.image, id).Extract()
			if err != nil {
				return nil, err
			}
			return state{"name": found.Name, "visibility": found.Visibility, "min_disk_gb": found.MinDiskGigabytes,
				"min_ram_mb": found.MinRAMMegabytes, "protected": found.Protected, "tags": found.Tags,
				"size_bytes": found.SizeBytes, "checksum": found.Checksum, "owner": found.Owner,
				"os_distro": found.Properties["os_distro"], "own": found.Properties["own"],
				"new": found.Properties["new"]}, nil
		},
		wanted: state{"name": name, "visibility": private, "min_disk_gb": 1, "min_ram_mb": 64, "tags": []string{"a"},
			"size_bytes": 1024, "os_distro": "debian", "own": "1"},
		change: func(id string) (state, error) {
			changes := images.UpdateOpts{
				images.ReplaceImageName{NewName: name + "-2"},
				images.ReplaceImageTags{NewTags: []string{"b"}},
				images.ReplaceImageMinDisk{NewMinDisk: 2},
				images.UpdateImageProperty{Op: images.ReplaceOp, Name: "os_distro", Value: "ubuntu"},
				images.UpdateImageProperty{Op: images.RemoveOp, Name: "own"},
				images.UpdateImageProperty{Op: images.AddOp, Name: "new", Value: "2"},
			}
			_, err := images.Update(c.image, id, changes).Extract()
			return state{"name": name + "-2", "tags": []string{"b"}, "min_disk_gb": 2, "os_distro": "ubuntu", "own": nil,
				"new": "2"}, err
		},
		delete: func(id string) error { return images.Delete(c.image, id).ExtractErr() },
	}
}
