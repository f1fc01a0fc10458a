"""Limits of projects and of everybody."""

from muster.domain.quotas import EVERYBODY, UNLIMITED, Ask, Refusal
from muster.services.quotas import Quotas


async def test_a_projects_own_limit_comes_before_everybodys_and_that_before_the_default(database):
    quotas = Quotas({"cores": 1, "ram": 2, "instances": 3})
    async with database.write() as connection:
        await quotas.set_limits(connection, EVERYBODY, {"ram": 20, "instances": 30})
        await quotas.set_limits(connection, "p", {"instances": 300})
        await quotas.ensure_limits(connection, "p", {"instances": UNLIMITED, "ram": UNLIMITED})
        limits = await quotas.limits(connection, ["p", "q"], ["cores", "ram", "instances", "other"])
        assert {name: limits["p", name] for name in ("cores", "ram", "instances")} == {
            "cores": 1,
            "ram": UNLIMITED,
            "instances": 300,
        }
        assert {name: limits["q", name] for name in ("cores", "ram", "instances", "other")} == {
            "cores": 1,
            "ram": 20,
            "instances": 30,
            "other": UNLIMITED,
        }
        outcomes = await quotas.admit(connection, [Ask("q", {"ram": 15}), Ask("q", {"ram": 6}), Ask("q", {"ram": 5})])
        assert outcomes == [None, Refusal("ram", 6, 15, 20), None]
        await quotas.reset_limits(connection, "p", ["ram", "instances"])
        assert (await quotas.limits(connection, ["p"], ["instances"])) == {("p", "instances"): 30}
        assert (await quotas.in_use(connection, "q")) == {"ram": 20}
