"""What hosts must hear of costs little where no host is real."""

from typing import Any

import pytest

from muster.domain.group_members import Member
from muster.domain.network_members import Binding
from muster.services.outbox import Outbox
from muster.store import hosts as host_store

NOWHERE: Any = None  # no statement is to be executed but those that are replaced


async def test_whether_any_host_is_real_is_asked_once_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def any_firewall(_: object) -> bool:
        nonlocal asked
        asked += 1
        return False

    monkeypatch.setattr(host_store, "any_firewall", any_firewall)
    telling = Outbox(lambda: 1.0).begin(NOWHERE)
    await telling.members_changed((), [Member(("group",), ("10.0.0.4",))])
    await telling.bindings_changed(came={Binding("network", "host")})
    await telling.groups_changed(["group"])
    await telling.settle()
    assert asked == 1


async def test_where_nothing_changes_nothing_is_asked() -> None:
    telling = Outbox(lambda: 1.0).begin(NOWHERE)
    await telling.members_changed((), ())
    await telling.bindings_changed(came={Binding("network", "")})
    await telling.groups_changed(())
    await telling.settle()
