"""Run by Neutron's own Python: makes one port as an API worker would, and stops itself at a named moment.

`port_maker.py CONFIG NETWORK_ID MOMENT`: writes "stopped" to its output and raises SIGSTOP when it comes to MOMENT,
once: `deciding` (in the driver's transaction, before its commit), `claimed` (committed, not confirmed), `confirmed`
(the port's transaction still open), `promised` (three ports in one request, with their addresses and not begun yet),
`never`. In the end it writes the addresses, or the error.
"""

import os
import signal
import sys

from neutron import manager
from neutron.common import config
from neutron.plugins.ml2.plugin import Ml2Plugin
from neutron_lib import constants, context
from neutron_lib.plugins import directory

from muster.neutron import driver, store

_CONFIG, _NETWORK = sys.argv[1:3]
_moments = {sys.argv[3]}


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _stop(moment: str) -> None:
    if moment in _moments:
        _moments.clear()
        _say("stopped")
        os.kill(os.getpid(), signal.SIGSTOP)


def _after(module, name, moment):
    real = getattr(module, name)

    def wrapped(*args, **kwargs):
        result = real(*args, **kwargs)
        _stop(moment)
        return result

    setattr(module, name, wrapped)


_after(store, "add_addresses", "deciding")
_after(store, "confirm", "confirmed")
_take_outside = driver._take_outside


def _stop_before(*args):
    _stop("claimed")
    return _take_outside(*args)


driver._take_outside = _stop_before
_after(Ml2Plugin, "allocate_macs_and_ips_for_ports", "promised")
_COUNT = 3 if sys.argv[3] == "promised" else 1

config.register_common_config_options()
config.init(["--config-file", _CONFIG])
manager.init()
port = {
    "network_id": _NETWORK,
    "project_id": "p",
    "tenant_id": "p",
    "name": "",
    "admin_state_up": True,
    "device_id": "",
    "device_owner": "",
    "mac_address": constants.ATTR_NOT_SPECIFIED,
    "fixed_ips": constants.ATTR_NOT_SPECIFIED,
}
_say("ready")
try:
    if _COUNT == 1:
        made = [directory.get_plugin().create_port(context.get_admin_context(), {"port": port})]
    else:
        ports = {"ports": [{"port": dict(port)} for _ in range(_COUNT)]}
        made = directory.get_plugin().create_port_bulk(context.get_admin_context(), ports)
    _say(" ".join(one["fixed_ips"][0]["ip_address"] for one in made))
except Exception as error:
    _say(f"{type(error).__name__}: {error}")
