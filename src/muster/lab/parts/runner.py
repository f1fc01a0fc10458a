"""What the lab asks of each kind of part."""

import http.client
import signal
import socket
from typing import Protocol

from muster.lab.api import NO_PROXY
from muster.lab.plan import Part
from muster.lab.processes import STARTED, Launch
from muster.lab.site import Site

_PROBE_S = 2.0


class Runner(Protocol):
    """A kind of part. `prepare` and `complete` are called once for a part, before and after its first start.

    `stop_signal` asks its first process to end in its own way.
    """

    stop_signal: signal.Signals

    def prepare(self, site: Site, part: Part) -> None:
        """Write what it needs before its first start; its folder is there."""

    def launch(self, site: Site, part: Part) -> Launch:
        """How it is started, the first time and again."""

    def is_ready(self, site: Site, part: Part) -> bool:
        """Whether it does its work; one question to it, of a few seconds at most."""

    def complete(self, site: Site, part: Part) -> None:
        """What is left to do when it is ready for the first time."""


def answers(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((address, port), timeout=_PROBE_S):
            return True
    except OSError:
        return False


def gets(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with NO_PROXY.open(url, timeout=_PROBE_S) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def said(site: Site, part: Part, words: str) -> bool:
    """Whether a line of its log begins with these words, since its last start."""
    path = site.log(part)
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in reversed(lines):
        if line.startswith(words):
            return True
        if line.startswith(STARTED):
            return False
    return False
