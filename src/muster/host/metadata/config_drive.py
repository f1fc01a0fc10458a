"""The config drive: the same documents on a small read-only disk, for guests without (or before) a network.

An ISO 9660 image labelled `config-2`, with Rock Ridge and Joliet names, made in this process: a program started for
each guest would cost more than the guest's whole definition. Source: Nova's user documentation, "Config drives".
"""

import io

import msgspec
import pycdlib

from muster.host.metadata import ec2, openstack
from muster.host.metadata.openstack import Description

LABEL = "config-2"


def drive_files(description: Description) -> dict[str, bytes]:
    """The drive's files by path, as Nova lays them out. Raises Invalid when user data is not base64."""
    files = openstack.files(description)
    user_data = openstack.user_data_of(description.server)
    described = msgspec.json.encode(ec2.document(description.server, description.domain))
    for version in ("2009-04-04", ec2.LATEST):
        files[f"ec2/{version}/meta-data.json"] = described
        if user_data is not None:
            files[f"ec2/{version}/user-data"] = user_data
    return files


def config_drive(description: Description) -> bytes:
    """The image of a server's config drive. Raises Invalid when user data is not base64. A few milliseconds of CPU."""
    return iso9660(drive_files(description), LABEL)


def iso9660(files: dict[str, bytes], label: str) -> bytes:
    """An ISO 9660 image of these files (ECMA-119), readable with long names by Linux (RRIP) and Windows (Joliet)."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label)
    try:
        folders = {"": ""}
        for index, (path, content) in enumerate(sorted(files.items())):
            parent, _, name = path.rpartition("/")
            short = f"{_folder(iso, folders, parent)}/F{index:05d}.;1"
            iso.add_fp(io.BytesIO(content), len(content), short, rr_name=name, joliet_path="/" + path)
        image = io.BytesIO()
        iso.write_fp(image)
    finally:
        iso.close()
    return image.getvalue()


def _folder(iso: pycdlib.PyCdlib, folders: dict[str, str], path: str) -> str:
    """The short name of a folder; makes it and those above it."""
    if path not in folders:
        parent, _, name = path.rpartition("/")
        short = f"{_folder(iso, folders, parent)}/D{len(folders):05d}"
        iso.add_directory(short, rr_name=name, joliet_path="/" + path)
        folders[path] = short
    return folders[path]
