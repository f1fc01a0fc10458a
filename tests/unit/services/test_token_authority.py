"""Sealing and opening tokens; what is held in memory, and that every use is checked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from msgspec.structs import replace

from muster.base.errors import Unauthenticated
from muster.domain.revocations import Revocation
from muster.domain.tokens import Token
from muster.services.revocations import Revocations
from muster.services.token_authority import TokenAuthority
from muster.services.token_keys import KeyRing
from muster.store.engine import Database

TOKEN = Token(
    user_id="u",
    user_name="alice",
    user_domain_id="d",
    methods=("password",),
    audit_ids=("a",),
    issued_at_s=1_000.0,
    expires_at_s=2_000.0,
    epoch=50,
    roles=("member", "reader"),
    project_id="p",
    project_name="demo",
    project_domain_id="pd",
)


class Bench:
    """An authority with a clock to turn, and revocations that need no database."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_000.0
        self.first, self.second = Fernet.generate_key(), Fernet.generate_key()
        self.keys = KeyRing()
        self.keys.hold([self.first])
        self.revocations = Revocations(Database(f"sqlite:///{directory}/none.db"), self.clock, token_lifetime_s=3600)
        self.authority = TokenAuthority(self.keys, self.revocations, self.clock, cache_size=3)

    def clock(self) -> float:
        return self.now

    def revoke(self, subject: str, seq: int) -> None:
        self.revocations._hold([Revocation(seq, subject, 9_999.0)])

    def is_valid(self, text: str) -> bool:
        try:
            self.authority.context(text)
        except Unauthenticated:
            return False
        return True


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    return Bench(tmp_path)


def test_a_token_opens_to_what_was_sealed(bench: Bench) -> None:
    text = bench.authority.seal(TOKEN)

    assert bench.authority.token(text) == TOKEN
    context = bench.authority.context(text)
    assert (context.user_id, context.user_name, context.user_domain_id) == ("u", "alice", "d")
    assert (context.project_id, context.project_name, context.project_domain_id) == ("p", "demo", "pd")
    assert context.roles == {"member", "reader"}
    assert context.expires_at_s == 2_000.0
    assert context.audit_ids == ("a",)
    assert not context.is_admin


def test_another_authority_with_the_same_keys_opens_it(bench: Bench) -> None:
    text = bench.authority.seal(TOKEN)
    assert TokenAuthority(bench.keys, bench.revocations, bench.clock).token(text) == TOKEN


def test_expiry_is_checked_every_time(bench: Bench) -> None:
    text = bench.authority.seal(TOKEN)
    bench.now = 1_999.9
    assert bench.is_valid(text)
    bench.now = 2_000.0
    assert not bench.is_valid(text)
    assert not bench.is_valid(bench.authority.seal(replace(TOKEN, audit_ids=("b",))))


SUBJECTS = (
    "token/a",
    "user/u",
    "domain/d",
    "project/p",
    "domain/pd",
    "scope/u/p",
    "role/member",
    "role/reader",
)


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("used_before", [True, False])
def test_revoked(bench: Bench, subject: str, used_before: bool) -> None:
    text = bench.authority.seal(TOKEN)
    assert not used_before or bench.is_valid(text)
    bench.revoke(subject, 50)
    assert bench.is_valid(text)  # its rights were read after that
    bench.revoke(subject, 51)
    assert not bench.is_valid(text)
    bench.revoke(subject, 40)  # news that comes late changes nothing
    assert not bench.is_valid(text)
    assert bench.is_valid(bench.authority.seal(replace(TOKEN, epoch=51)))


@pytest.mark.parametrize("subject", ["token/b", "user/p", "scope/u/x", "scope/x/p", "role/admin", "project/u"])
def test_revocations_of_others_do_not_matter(bench: Bench, subject: str) -> None:
    text = bench.authority.seal(TOKEN)
    bench.revoke(subject, 99)
    assert bench.is_valid(text)


def test_scopes_of_other_kinds_have_their_subjects(bench: Bench) -> None:
    bare = replace(TOKEN, project_id=None, project_domain_id="", project_name="")
    cases = [
        (replace(bare, system=True), "scope/u/system"),
        (replace(bare, domain_id="dd"), "scope/u/dd"),
        (replace(bare, domain_id="ee"), "domain/ee"),
        (replace(TOKEN, application_credential_id="c"), "application_credential/c"),
    ]
    for token, subject in cases:
        text = bench.authority.seal(token)
        assert bench.is_valid(text)
        bench.revoke(subject, 99)
        assert not bench.is_valid(text)


def test_no_more_is_held_than_allowed(bench: Bench) -> None:
    texts = [bench.authority.seal(replace(TOKEN, audit_ids=(str(number),))) for number in range(5)]
    for text in texts:
        assert bench.is_valid(text)
    assert list(bench.authority._cache) == texts[2:]
    bench.is_valid(texts[2])
    bench.is_valid(texts[0])
    assert list(bench.authority._cache) == [texts[4], texts[2], texts[0]]


def test_what_is_not_valid_is_not_held(bench: Bench) -> None:
    text = bench.authority.seal(TOKEN)
    bench.revoke("user/u", 99)
    assert not bench.is_valid(text)
    for nonsense in ("", "x", "é", "x" * 9_000, text[:-5]):
        assert not bench.is_valid(nonsense)
    assert not bench.authority._cache


def test_a_key_that_is_gone_opens_nothing(bench: Bench) -> None:
    text = bench.authority.seal(TOKEN)
    assert bench.is_valid(text)
    bench.keys.hold([bench.second, bench.first])
    assert bench.is_valid(text)
    bench.keys.hold([bench.second])
    assert not bench.is_valid(text)
