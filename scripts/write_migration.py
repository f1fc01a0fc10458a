"""See scripts/migration."""

import argparse
import asyncio
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import Connection

from muster.store import migrations
from muster.store.engine import Database
from muster.store.migrations import running

FOLDER = Path(migrations.__file__).parent
_DRAFT = "draft"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a migration; see scripts/migration.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("message", nargs="?", help="what changed, in a few words")
    what.add_argument("--initial", action="store_true", help="write the first revision anew, in place of all others")
    arguments = parser.parse_args()
    if arguments.initial:
        for old in FOLDER.glob("versions/0*.py"):
            old.unlink()
    written = asyncio.run(_write(arguments.message or "The first schema", batch=not arguments.initial))
    _write_head()
    subprocess.run([Path(sys.executable).with_name("ruff"), "format", "--quiet", written], check=True)
    print(f"Wrote {written}")


async def _write(message: str, *, batch: bool) -> Path:
    before = sorted(FOLDER.glob("versions/0*.py"))
    number = f"{len(before) + 1:04d}"

    def autogenerate(connection: Connection) -> None:
        config = running.config(connection, batch=batch)
        command.upgrade(config, "head")
        config.set_main_option("file_template", f"{number}_%%(slug)s")
        command.revision(config, message, autogenerate=True, rev_id=_DRAFT)

    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/empty.db")
        try:
            async with database.alter() as connection:
                await connection.run_sync(autogenerate)
        finally:
            await database.close()
    [written] = set(FOLDER.glob("versions/0*.py")) - set(before)
    text = "".join(line for line in written.read_text().splitlines(keepends=True) if "# ###" not in line)
    # The same changes get the same revision, whoever writes them.
    written.write_text(text.replace(_DRAFT, hashlib.sha256(text.encode()).hexdigest()[:12]))
    return written


def _write_head() -> None:
    path = FOLDER / "__init__.py"
    head = running.revisions()[-1]
    path.write_text(re.sub(r'^HEAD = ".*"$', f'HEAD = "{head}"', path.read_text(), flags=re.M))


if __name__ == "__main__":
    main()
