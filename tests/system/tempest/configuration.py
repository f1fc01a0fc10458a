"""`tempest.conf` for a cloud of Muster with simulated hosts: what it has, and what it has not."""

from configparser import RawConfigParser
from pathlib import Path
from typing import Any

from openstack.config import OpenStackConfig
from openstack.connection import Connection
from tests.cloud_process import CloudProcess

Sections = dict[str, dict[str, str]]

# What users of this cloud find missing. Tempest skips what needs it, and says so; the transcript counts that.
NOT_OFFERED: Sections = {
    "service_available": {"cinder": "false", "swift": "false", "horizon": "false"},
    "identity-feature-enabled": {"trust": "false", "access_rules": "false"},
    "compute-feature-enabled": {
        "attach_encrypted_volume": "false",
        "cold_migration": "false",
        "ide_bus": "false",
        "live_migration": "false",
        "pause": "false",
        "rescue": "false",
        "resize": "false",
        "shelve": "false",
        "snapshot": "false",
        "suspend": "false",
    },
    "image-feature-enabled": {"import_image": "false"},
    "network-feature-enabled": {"floating_ips": "false"},
    # Simulated guests cannot be logged into: real ones are the matter of `tests/system/test_real_guests.py`.
    "validation": {"run_validation": "false", "connect_method": "fixed"},
}

# What this cloud has and Tempest does not look for by itself.
OFFERED: Sections = {
    "service_available": {"neutron": "true", "glance": "true", "nova": "true"},
    "compute-feature-enabled": {
        "config_drive": "true",
        "console_output": "true",
        "disk_config": "true",
        "enable_instance_password": "true",
        "interface_attach": "true",
        "metadata_service": "true",
        "personality": "true",
        "scheduler_enabled_filters": (
            "AvailabilityZoneFilter,ComputeFilter,ServerGroupAntiAffinityFilter,ServerGroupAffinityFilter"
        ),
    },
    # What Tempest uploads for its lists is random: a raw disk, which is refused as any other format. Told that what is
    # uploaded is looked at, it would skip these lists.
    "image": {"container_formats": "bare", "disk_formats": "raw"},
    "image-feature-enabled": {"image_format_enforcement": "false"},
    "network-feature-enabled": {"ipv6": "true", "ipv6_subnet_attributes": "true", "port_security": "true"},
    # Rights are those of OpenStack's defaults since 2023: what is only looked at, a user with the role reader looks at.
    "enforce_scope": {"nova": "true", "neutron": "true", "glance": "true"},
}

BUILD_TIMEOUT_S = 300  # a machine under load is slow, not wrong
HTTP_TIMEOUT_S = 120


def write_configuration(cloud: CloudProcess, hosts: int, folder: Path, lowest: str | None = None) -> Path:
    """Make in the cloud what Tempest wants to find there, and write `folder`/tempest.conf. Its path.

    That is a second image, and a network to the outside; nothing is on it. `lowest` is the microversion of the compute
    API that Tempest uses at least.
    """
    region = OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one("muster")
    with Connection(config=region) as connection:
        image = next(connection.image.images(name="guest"))
        other = connection.image.create_image(
            name="tempest-alt", data=b"\0" * 512, disk_format="raw", container_format="bare", visibility="public"
        )
        outside = connection.network.create_network(name="outside", is_router_external=True)
        found = {
            "compute": {"image_ref": image.id, "image_ref_alt": other.id},
            "network": {"public_network_id": outside.id},
            "network-feature-enabled": {
                "api_extensions": ",".join(extension.alias for extension in connection.network.extensions())
            },
            "compute-feature-enabled": {},
        }
        versions = connection.compute.get_endpoint_data()
        if lowest is not None:
            found["compute"]["min_microversion"] = lowest
        found["compute"]["max_microversion"] = "{}.{}".format(*versions.max_microversion)
    configuration = RawConfigParser()
    for sections in (_own(region.config["auth"], hosts, folder), OFFERED, NOT_OFFERED, found):
        configuration.read_dict(sections)
    path = folder / "tempest.conf"
    with path.open("w") as file:
        path.chmod(0o600)
        configuration.write(file)
    return path


def _own(access: dict[str, Any], hosts: int, folder: Path) -> Sections:
    """Who Tempest is, and where it keeps its things. It makes projects and users for its tests by itself."""
    locks = folder / "locks"
    locks.mkdir()
    return {
        "DEFAULT": {"log_file": str(folder / "tempest.log"), "debug": "true"},
        "oslo_concurrency": {"lock_path": str(locks)},
        "auth": {
            "use_dynamic_credentials": "true",
            # With a network for each of its projects Tempest makes a router. Servers are on the network that all share.
            "create_isolated_networks": "false",
            "admin_username": access["username"],
            "admin_password": access["password"],
            "admin_project_name": access["project_name"],
            "admin_domain_name": "Default",
        },
        "identity": {"uri_v3": access["auth_url"], "auth_version": "v3"},
        "service-clients": {"http_timeout": str(HTTP_TIMEOUT_S)},
        "compute": {
            "fixed_network_name": "default",
            "flavor_ref": "1",
            "flavor_ref_alt": "2",
            "min_compute_nodes": str(hosts),
            "build_timeout": str(BUILD_TIMEOUT_S),
        },
    }
