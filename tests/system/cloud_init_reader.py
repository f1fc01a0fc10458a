"""Run by Debian's Python, with cloud-init's own code on its path: reads metadata as a booting guest does.

    cloud_init_reader.py PACKAGES (drive FOLDER | service URL) '{"mac address": "interface"}'

Prints what cloud-init has understood as one JSON document.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

packages, kind, source, interfaces = sys.argv[1:]
sys.path.insert(0, packages)

from cloudinit import sources, user_data, util  # noqa: E402  # found by the line above
from cloudinit.helpers import Paths  # noqa: E402
from cloudinit.net import eni, netplan, network_state  # noqa: E402
from cloudinit.sources.helpers import ec2, openstack  # noqa: E402


def read() -> dict[str, Any]:
    """The metadata by the reader of ConfigDrive's data source, or of OpenStack's."""
    if kind == "drive":
        return openstack.ConfigDriveReader(source).read_v2()
    found = openstack.MetadataReader(source, timeout=50, retries=0).read_v2()
    found["ec2-userdata"] = ec2.get_instance_userdata(metadata_address=source, retries=0)
    return found


def rendered(network: dict[str, Any]) -> dict[str, Any]:
    """The network's configuration in cloud-init's own terms, and as netplan's and ifupdown's files."""
    config = openstack.convert_net_json(network, known_macs=json.loads(interfaces))
    state = network_state.parse_net_config_data(config)
    with tempfile.TemporaryDirectory() as folder:
        netplan.Renderer({"netplan_path": "np.yaml"}).render_network_state(state, target=folder)
        eni.Renderer({"eni_path": "eni"}).render_network_state(state, target=folder)
        plan = util.load_yaml(Path(folder, "np.yaml").read_text())
        return {"config": config, "netplan": plan, "eni": Path(folder, "eni").read_text()}


def parts(blob: bytes) -> list[tuple[str, str]]:
    """Type and content of each part of the user data that cloud-init would handle."""
    message = user_data.UserDataProcessor(Paths({"cloud_dir": "/nonexistent"})).process(blob)
    return [
        (part.get_content_type(), util.decode_binary(util.fully_decoded_payload(part)))
        for part in message.walk()
        if not part.is_multipart()
    ]


found = read()
metadata = found["metadata"]
for key in ("userdata", "ec2-userdata"):
    if found.get(key):
        found[key] = {"raw": base64.b64encode(found[key]).decode(), "parts": parts(found[key])}
found["files"] = {path: base64.b64encode(content).decode() for path, content in found.get("files", {}).items()}
metadata["random_seed"] = len(metadata.get("random_seed", b""))
found["ssh_keys"] = sources.normalize_pubkey_data(metadata.get("public_keys"))
found["vendor"] = [sources.convert_vendordata(found.get(name)) for name in ("vendordata", "vendordata2")]
found["network"] = rendered(found["networkdata"])
json.dump(found, sys.stdout)
