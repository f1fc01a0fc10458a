"""`muster restored`, as an operator says it after a backup was restored."""

import asyncio
from pathlib import Path

import asyncpg
from click.testing import CliRunner

from muster.cli.main import main
from muster.domain.messages import next_epoch
from tests.conformance.conftest import Postgres


async def test_all_hosts_begin_anew(postgres: Postgres, tmp_path: Path) -> None:
    url = await postgres.create_database()
    path = tmp_path / "muster.toml"
    path.touch(0o600)
    path.write_text(
        f'folder = "{tmp_path}"\nsecret = "{"s" * 40}"\n[engines]\ndatabase_url = "{url}"\n'
        'locks_url = "etcd://127.0.0.1:1"\nbus_url = "amqp://127.0.0.1:1/"\n'
    )

    async def say() -> str:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["restored", "--settings", str(path)])
        assert result.exit_code == 0, result.output
        return result.output

    assert "anew: 0" in await say()
    connection = await asyncpg.connect(url)
    try:
        columns = await connection.fetch(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_name = 'hosts' AND is_nullable = 'NO' AND column_default IS NULL"
        )
        values = dict.fromkeys((row["column_name"] for row in columns), "'0'")
        for host_id, seq in (("a", 7), ("b", next_epoch(1 << 62))):
            mine = {**values, "id": f"'{host_id}'", "hostname": f"'{host_id}'", "desired_seq": str(seq)}
            await connection.execute(f"INSERT INTO hosts ({', '.join(mine)}) VALUES ({', '.join(mine.values())})")
        assert "anew: 2" in await say()
        first = {row["desired_seq"] for row in await connection.fetch("SELECT desired_seq FROM hosts")}
        assert first == {next_epoch(next_epoch(1 << 62))}, "one that none has heard of"
    finally:
        await connection.close()
