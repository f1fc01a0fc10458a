"""What a run makes to reach its servers, against a cloud's answers."""

from typing import cast

import msgspec
import pytest

from muster.base.errors import Conflict
from muster.client.access import let_in
from muster.client.api import Api, Call
from muster.client.http_connection import Response


class Refusing:
    """Answers each rule with a conflict of a kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.asked = 0

    async def send(self, call: Call) -> Response:
        self.asked += 1
        assert 409 in call.ok
        return Response(409, {}, msgspec.json.encode({"NeutronError": {"type": self.kind, "message": self.kind}}))


async def test_rules_that_are_there_already_stay() -> None:
    api = Refusing("SecurityGroupRuleExists")
    await let_in(cast(Api, api), "group", 22)
    assert api.asked == 4


@pytest.mark.parametrize("kind", ["OverQuota", ""])
async def test_a_quota_that_is_used_up_is_no_rule_that_is_there(kind: str) -> None:
    """It went unnoticed, and no server could be pinged then."""
    with pytest.raises(Conflict):
        await let_in(cast(Api, Refusing(kind)), "group", 22)
