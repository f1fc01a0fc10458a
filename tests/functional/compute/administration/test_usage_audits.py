"""`os-instance_usage_audit_log`: what a Nova answers whose hosts write no audits."""

from datetime import UTC, datetime

from muster.domain.usage_audits import last_month

PATH = "/os-instance_usage_audit_log"


async def test_no_host_has_run_an_audit(admin):
    shown = (await admin.get(f"{PATH}/2026-03-15%2010:00:00"))["instance_usage_audit_log"]
    assert shown == {
        "period_beginning": "2026-02-01 00:00:00",
        "period_ending": "2026-03-01 00:00:00",
        "num_hosts": 2,
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": 2,
        "hosts_not_run": ["sim-0000", "sim-0001"],
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": "0 of 2 hosts done. 0 errors.",
        "log": {},
    }
    assert set((await admin.get(PATH))["instance_usage_audit_logs"]) == set(shown)


async def test_a_moment_that_is_none_and_who_is_no_admin(admin, member):
    for text in ("invalid_time", "2026-13-01%2000:00:00", "0001-01-01%2000:00:00", "2026-03-15", "x" * 300):
        status, _, message = await admin.refusal("GET", f"{PATH}/{text}")
        assert status == 400, text
        assert len(message) < 120
    for path in (PATH, f"{PATH}/2026-03-15%2010:00:00"):
        assert (await member.refusal("GET", path))[0] == 403


def test_the_month_before():
    january, december = datetime(2026, 1, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)
    assert last_month(january) == (december, january)
    assert last_month(january.replace(day=31, hour=23)) == (december, january)
    assert last_month(datetime(2024, 3, 31, 23, 59, tzinfo=UTC))[0] == datetime(2024, 2, 1, tzinfo=UTC)
