"""A tree of files behind URLs: what a GET of a path answers.

Invariant: a path is looked up in a dictionary, never on a disk, so no path leads out of the tree.
"""

from collections.abc import Mapping

from muster.host.metadata import ec2, openstack
from muster.host.metadata.openstack import Description

_KEYS = "meta-data/public-keys"


def service_files(description: Description) -> dict[str, bytes]:
    """All that the metadata service answers to one server, by path. Raises Invalid when user data is not base64."""
    return openstack.files(description) | ec2.files(description.server, description.domain)


def answer(files: Mapping[str, bytes], path: str, key_name: str | None) -> bytes | None:
    """The content of a file, the listing of a folder, or None when there is neither.

    `key_name` is the name of the server's ssh key: EC2's listing of keys shows it beside its index.
    """
    wanted = "/".join(part for part in path.split("/") if part)
    if wanted in files:
        return files[wanted]
    prefix = wanted + "/" if wanted else ""
    if wanted.endswith(_KEYS) and key_name is not None:
        return f"0={key_name}".encode()
    names = _names(files, prefix)
    return "\n".join(names).encode() if names else None


def _names(files: Mapping[str, bytes], prefix: str) -> list[str]:
    """The entries of a folder, sorted; EC2 marks folders with a slash and does not list OpenStack's tree."""
    below = [path[len(prefix) :] for path in files if path.startswith(prefix)]
    if not prefix:
        return sorted({path.split("/")[0] for path in below} - {"openstack"})
    names = {name + "/" if rest else name for name, _, rest in (path.partition("/") for path in below)}
    if prefix == "openstack/":
        return sorted(name.rstrip("/") for name in names if name != "content/")
    return sorted(names)
