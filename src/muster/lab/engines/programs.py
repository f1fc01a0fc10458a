"""Where an engine's programs are."""

import shutil
from collections.abc import Sequence

from muster.base.errors import Unsupported

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str, package: str, folders: Sequence[str] = ()) -> str:
    """The path of a program, looked for on the PATH, where Debian keeps servers, and in `folders`, the last one first.

    Raises Unsupported, which names the Debian package.
    """
    for path in (None, _PATH, *reversed(folders)):
        if found := shutil.which(name, path=path):
            return found
    raise Unsupported(f"{name} is not installed; run: apt-get install --no-install-recommends {package}")
