"""A cloud's secret, the administrator's password and clouds.yaml: made once, readable by their owner only."""

from pathlib import Path

import yaml

from muster.base.durable import replace_file, sync_directory
from muster.base.ids import new_secret
from muster.cli.settings import Settings
from muster.services.cluster_secret import ClusterSecret

_PASSWORD = "admin-password"  # noqa: S105 - a file's name
_SECRET = "secret"  # noqa: S105 - the same


def admin_password(folder: Path) -> str:
    """The password of the cloud in `folder`; drawn at random the first time."""
    return _kept(folder / _PASSWORD, n_bytes=24)


def folder_secret(folder: Path) -> str:
    """What the keys of the cloud in `folder` are derived from; drawn at random the first time."""
    return _kept(folder / _SECRET, n_bytes=32)


def cluster_password(settings: Settings) -> str:
    """The administrator's first password in a cluster: as the settings say, or else derived from its secret, so that
    every machine knows it."""
    return settings.admin_password or ClusterSecret(settings.secret).password("admin password")


def write_clouds_yaml(folder: Path, base_url: str, password: str) -> Path:
    """Write how clients reach the cloud, under the name `muster`."""
    cloud = {
        "auth_type": "password",
        "auth": {
            "auth_url": f"{base_url}/identity/v3",
            "username": "admin",
            "password": password,
            "project_name": "admin",
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        # Or openstacksdk wants a floating address for each server as soon as there is an external network.
        "floating_ip_source": "None",
        "region_name": "RegionOne",
        "interface": "public",
        "identity_api_version": "3",
    }
    path = folder / "clouds.yaml"
    replace_file(path, yaml.safe_dump({"clouds": {"muster": cloud}}, sort_keys=False).encode())
    return path


def _kept(path: Path, n_bytes: int) -> str:
    if not path.exists():
        replace_file(path, f"{new_secret(n_bytes)}\n".encode())
        sync_directory(path.parent)  # what it is for is in the database from now on
    return path.read_text().strip()
