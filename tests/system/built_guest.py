"""The test guest's image, built before a cloud in a network namespace asks for it: from there no mirror is reached."""

import subprocess
import sys
from functools import cache

BUILD_S = 900.0


@cache
def build_guest() -> None:
    """Build it, unless it is there; of several processes that want it one builds and the others wait."""
    command = [sys.executable, "-m", "muster", "guest", "build"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
