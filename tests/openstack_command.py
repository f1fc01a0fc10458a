"""The stock `openstack` command, as users of clouds; see `openstack_zygote` for why it is quick. Blocking."""

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND_TIMEOUT_S = 300
_ZYGOTE = Path(__file__).with_name("openstack_zygote.py")


class OpenStack:
    """The command as one user. `environment` tells the cloud and the user (`OS_...`); nothing else is inherited."""

    def __init__(self, zygote: subprocess.Popen[bytes], home: Path, environment: Mapping[str, str]) -> None:
        self._zygote = zygote
        self._home = home
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(home), **environment}

    def with_environment(self, environment: Mapping[str, str]) -> "OpenStack":
        """The command as another user."""
        return OpenStack(self._zygote, self._home, environment)

    def __call__(self, line: str, *words: str, status: int = 0) -> str:
        """What the command printed, checked for its exit status. `line` is split as a shell does, `words` are not."""
        arguments = [*shlex.split(line), *words]
        output = self._home / "output"
        request = {"arguments": arguments, "environment": self._environment, "output": str(output)}
        answer = self._ask(json.dumps(request).encode())
        said = output.read_text()
        assert answer["status"] == status, f"openstack {shlex.join(arguments)}: {answer['status']}: {said}"
        return said

    def json(self, line: str, *words: str) -> Any:
        """What the command prints with `-f json`."""
        return json.loads(self(line, *words, "-f", "json"))

    def _ask(self, request: bytes) -> dict[str, Any]:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        watchdog = threading.Timer(COMMAND_TIMEOUT_S, self._zygote.kill)
        watchdog.start()
        try:
            self._zygote.stdin.write(request + b"\n")
            self._zygote.stdin.flush()
            answer = self._zygote.stdout.readline()
        finally:
            watchdog.cancel()
        assert answer, f"no answer within {COMMAND_TIMEOUT_S} s: {request.decode()}"
        return json.loads(answer)


@contextmanager
def openstack_command(home: Path, environment: Mapping[str, str]) -> Iterator[OpenStack]:
    """The command, with `home` for its files. Costs the client's start once, not once a command."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", str(_ZYGOTE)]
    zygote = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield OpenStack(zygote, home, environment)
    finally:
        zygote.kill()
        zygote.communicate()
