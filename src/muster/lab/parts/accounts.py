"""The accounts that engines run as: Debian's, which come with their packages."""

import os
import pwd
from pathlib import Path

from muster.base.errors import Unsupported
from muster.lab.plan import Part
from muster.lab.processes import Account
from muster.lab.site import Site


def account(site: Site, part: Part, user: str, package: str) -> Account:
    """The account, with the part's folder as its home. Raises Unsupported where there is none."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise Unsupported(
            f"there is no user {user} here; run: apt-get install --no-install-recommends {package}"
        ) from error
    found = Account(user, home=Path(entry.pw_dir), folder=site.part_folder(part))
    if not found.home.is_dir():
        raise Unsupported(f"{found.home}, the home of {user}, is missing; run: apt-get install --reinstall {package}")
    return found


def give(site: Site, part: Part, user: str) -> None:
    """All that is in the part's folder is the user's."""
    entry = pwd.getpwnam(user)
    folder = site.part_folder(part)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
