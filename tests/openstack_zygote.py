"""The stock `openstack` command without its start-up: a process that has loaded it forks once per command.

Each command runs in a fresh process, through `openstackclient.shell.main`, the entry point of the console script; only
the import of the client's modules is shared. Reads requests as JSON lines from standard input: `arguments`,
`environment`, `output` (a file for both outputs); answers each with a line that has `status`.
"""

import importlib
import json
import os
import sys
import traceback

# What the command would import for itself, whatever is asked of it.
_PRELOAD = (
    "openstack.connection",
    "openstackclient.shell",
    "openstackclient.compute.client",
    "openstackclient.compute.v2.server",
    "openstackclient.identity.client",
    "openstackclient.image.client",
    "openstackclient.image.v2.image",
    "openstackclient.network.client",
    "openstackclient.network.v2.port",
    "cliff.formatters.json_format",
    "cliff.formatters.table",
    "cliff.formatters.value",
)


def _serve() -> None:
    for module in _PRELOAD:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _run(request: dict) -> None:
    """Become the command. Never returns."""
    status = 1
    try:
        with open(os.devnull) as nothing, open(request["output"], "wb") as output:
            os.dup2(nothing.fileno(), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["openstack", *request["arguments"]]
        status = sys.modules["openstackclient.shell"].main(request["arguments"]) or 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
