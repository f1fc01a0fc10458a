"""The stock `openstack` command without its start-up: a process that has loaded it forks once per command.

Each command runs in a fresh process, through `openstackclient.shell.main`, the entry point of the console script; only
the import of the client's modules and plugins is shared. Reads requests as JSON lines from standard input: `arguments`,
`environment`, `output` (a file for both outputs); answers each with a line that has `status`.
"""

import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import sys
import traceback

# Groups of entry points: each command loads all their plugins before it looks at what is asked of it.
_PLUGINS = ("openstack.", "keystoneauth1.", "cliff.formatter.")


def _preload() -> None:
    """Load what the commands load, and what `cliff` looks up of all installed packages each time."""
    for module in ("openstack.connection", "openstackclient.shell"):
        importlib.import_module(module)
    entry_points = importlib.metadata.entry_points()
    for group in entry_points.groups:
        if group.startswith(_PLUGINS):
            for entry_point in entry_points.select(group=group):
                with contextlib.suppress(Exception):  # one that lacks something is passed over by the command, too
                    entry_point.load()
    sys.modules["cliff.command"]._get_distributions_by_modules()


def _serve() -> None:
    _preload()
    gc.freeze()  # or each child copies the pages of all objects once its own garbage is collected
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
