"""Keypairs as each microversion shows them, and the keys that servers are made with."""

import asyncio
from base64 import b64decode
from collections import Counter

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate
from sqlalchemy import event, select

from muster.domain.keypairs import PUBLIC_KEY_LIMIT
from muster.store.keypairs import keypairs
from muster.store.servers import servers

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJRjWZlPjV4x1cWhz7GXuS1sOPzYoVWzaqrjXgMqbmcL me@here"
FINGERPRINT_PARTS = 16


def body(name: str = "k", **fields: object) -> dict:
    return {"keypair": {"name": name, "public_key": ED25519, **fields}}


async def test_a_key_is_kept_shown_listed_and_forgotten(member):
    made = (await member.post("/os-keypairs", body("my key-1_2")))["keypair"]
    assert set(made) == {"name", "public_key", "fingerprint", "user_id"}
    assert (made["public_key"], made["user_id"]) == (ED25519, "alice")
    assert len(made["fingerprint"].split(":")) == FINGERPRINT_PARTS
    [listed] = (await member.get("/os-keypairs"))["keypairs"]
    assert listed == {"keypair": {name: made[name] for name in ("name", "public_key", "fingerprint")}}
    shown = (await member.get("/os-keypairs/my%20key-1_2"))["keypair"]
    assert (shown["deleted"], shown["deleted_at"], shown["updated_at"], shown["user_id"]) == (
        False,
        None,
        None,
        "alice",
    )
    assert isinstance(shown["id"], int)
    await member.delete("/os-keypairs/my%20key-1_2", status=202)
    refusal = await member.refusal("GET", "/os-keypairs/my%20key-1_2")
    assert refusal == (404, "itemNotFound", "Keypair my key-1_2 not found for user alice")
    assert (await member.refusal("DELETE", "/os-keypairs/my%20key-1_2"))[0] == 404


async def test_statuses_and_fields_by_microversion(member):
    made = (await member.post("/os-keypairs", body(), v="2.2", status=201))["keypair"]
    assert made["type"] == "ssh"
    assert (await member.get("/os-keypairs", v="2.2"))["keypairs"][0]["keypair"]["type"] == "ssh"
    assert (await member.get("/os-keypairs/k", v="2.90"))["keypair"]["type"] == "ssh"
    assert "type" not in (await member.get("/os-keypairs/k", v="2.1"))["keypair"]
    await member.delete("/os-keypairs/k", v="2.2", status=204)
    assert (await member.refusal("POST", "/os-keypairs", body(type="ssh"), v="2.1"))[0] == 400
    assert (await member.refusal("POST", "/os-keypairs", body(user_id="alice"), v="2.9"))[0] == 400
    await member.post("/os-keypairs", body(type="ssh", user_id="alice"), v="2.10", status=201)


async def test_a_pair_is_made_when_no_key_is_given_and_its_private_key_is_shown_once(bed, member):
    made = (await member.post("/os-keypairs", {"keypair": {"name": "made"}}, v="2.2", status=201))["keypair"]
    assert made["private_key"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    public = load_pem_private_key(made["private_key"].encode(), None).public_key()
    assert made["public_key"].startswith(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    assert "private_key" not in (await member.get("/os-keypairs/made"))["keypair"]
    async with bed.database.read() as connection:
        rows = (await connection.execute(select(keypairs))).all()
    assert "PRIVATE" not in str(rows)


async def test_certificates(bed, member):
    made = {"keypair": {"name": "winrm", "type": "x509"}}
    pair = (await member.post("/os-keypairs", made, v="2.2", status=201))["keypair"]
    key, certificate, _ = load_key_and_certificates(b64decode(pair["private_key"]), None)
    assert certificate == load_pem_x509_certificate(pair["public_key"].encode())
    assert key.public_key() == certificate.public_key()
    assert pair["type"] == "x509"
    assert pair["fingerprint"].replace(":", "") == certificate.fingerprint(SHA1()).hex()
    kept = body("kept", type="x509", public_key=pair["public_key"])
    assert (await member.post("/os-keypairs", kept, v="2.2", status=201))["keypair"]["fingerprint"] == pair[
        "fingerprint"
    ]
    shown = (await member.get("/os-keypairs/winrm", v="2.2"))["keypair"]
    assert (shown["type"], "private_key" in shown) == ("x509", False)
    server = await member.post("/servers", await bed.server_body(key_name="winrm"), status=202)
    assert (await bed.settled(member, server["server"]["id"]))["key_name"] == "winrm"


async def test_keys_are_the_users_own_and_admins_see_everybodys(admin, member, reader, other):
    await member.post("/os-keypairs", body("mine"))
    await reader.post("/os-keypairs", body("mine"))  # another user's key may have the same name
    assert (await other.get("/os-keypairs"))["keypairs"] == []
    await other.get("/os-keypairs/mine", status=404)
    assert await other.refusal("GET", "/os-keypairs/mine?user_id=alice", v="2.10") == (
        403,
        "forbidden",
        "Policy doesn't allow os_compute_api:os-keypairs:show to be performed.",
    )
    await other.get("/os-keypairs?user_id=alice", v="2.10", status=403)
    await other.delete("/os-keypairs/mine?user_id=alice", v="2.10", status=403)
    assert (await other.refusal("POST", "/os-keypairs", body(user_id="alice"), v="2.10"))[0] == 403
    assert (await other.get("/os-keypairs?user_id=alice", v="2.9"))["keypairs"] == []
    assert len((await admin.get("/os-keypairs?user_id=alice", v="2.10"))["keypairs"]) == 1
    made = await admin.post("/os-keypairs", body("given", user_id="alice"), v="2.10", status=201)
    assert made["keypair"]["user_id"] == "alice"
    await admin.delete("/os-keypairs/given?user_id=alice", v="2.10", status=204)
    assert [one["keypair"]["name"] for one in (await member.get("/os-keypairs"))["keypairs"]] == ["mine"]


async def test_pages(member):
    for name in "cab":
        await member.post("/os-keypairs", body(name))
    first = await member.get("/os-keypairs?limit=2", v="2.35")
    assert [one["keypair"]["name"] for one in first["keypairs"]] == ["a", "b"]
    [link] = first["keypairs_links"]
    assert link == {"rel": "next", "href": "http://cloud/v2.1/os-keypairs?limit=2&marker=b"}
    rest = await member.get("/os-keypairs?limit=2&marker=b", v="2.35")
    assert [one["keypair"]["name"] for one in rest["keypairs"]] == ["c"]
    assert "keypairs_links" not in rest
    old = await member.get("/os-keypairs?limit=1&marker=a", v="2.10")  # as openstacksdk asks
    assert [one["keypair"]["name"] for one in old["keypairs"]] == ["b"]
    assert "keypairs_links" not in old
    assert await member.get("/os-keypairs?limit=1&marker=c", v="2.35") == {"keypairs": []}
    assert (await member.refusal("GET", "/os-keypairs?marker=none", v="2.35"))[::2] == (
        400,
        "Marker none could not be found.",
    )
    for limit in ("-1", "x", "1.5"):
        await member.get(f"/os-keypairs?limit={limit}", v="2.35", status=400)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keypair": {}},
        {},
        {"keypair": {"name": "k"}, "more": 1},
        body(""),
        body("x" * 256),
        body(" k"),
        body("k "),
        body("k@host"),
        body("a/b"),
        body("k\x00"),
        body("schlüssel"),
        body(name=5),
        body(public_key="ssh-rsa"),
        body(public_key=""),
        body(public_key="ssh-rsa AAAA"),
        body(public_key="ssh-dss " + ED25519.split()[1]),
        body(public_key=f"{ED25519}\n{ED25519}"),
        body(public_key=ED25519 + " " * PUBLIC_KEY_LIMIT),
        body(public_key=ED25519 + "\x00"),
        body(public_key=7),
        body(type="x509"),  # the key is one for ssh
        body(type="x509", public_key="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        body(type="x509", public_key="x" * PUBLIC_KEY_LIMIT * 2),
        body(type="pgp"),
        body(user_id=""),
        body(unknown=1),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_key_is_refused(shared_bed, wrong):
    alice = shared_bed.client("member@p/alice")
    status, name, _ = await alice.refusal("POST", "/os-keypairs", wrong, v="2.10")
    assert (status, name) == (400, "badRequest")
    assert (await alice.get("/os-keypairs"))["keypairs"] == []


async def test_from_2_92_on_keys_are_imported_and_their_names_may_be_addresses(member):
    refusal = await member.refusal("POST", "/os-keypairs", {"keypair": {"name": "made"}}, v="2.92")
    assert refusal[0] == 400
    assert "public_key" in refusal[2]
    await member.post("/os-keypairs", body("k@host.example"), v="2.92", status=201)
    assert (await member.get("/os-keypairs/k@host.example"))["keypair"]["name"] == "k@host.example"
    assert (await member.refusal("POST", "/os-keypairs", body("k@other"), v="2.91"))[0] == 400


async def test_a_trailing_newline_as_files_have_it_is_no_harm(member):
    await member.post("/os-keypairs", body(public_key=ED25519 + "\n"))


async def test_a_name_is_taken_once_and_the_quota_is_kept_also_by_concurrent_requests(bed, admin, member):
    answers = await asyncio.gather(*(member.call("POST", "/os-keypairs", body("same")) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
    taken = next(answer for answer in answers if answer.status_code == 409).json()
    assert taken == {"conflictingRequest": {"code": 409, "message": "Key pair 'same' already exists."}}
    async with bed.database.write() as connection:
        await bed.quotas.set_limits(connection, "a" * 32, {"key_pairs": 3})
    answers = await asyncio.gather(*(member.call("POST", "/os-keypairs", body(f"k{i}")) for i in range(8)))
    assert Counter(answer.status_code for answer in answers) == {200: 2, 403: 6}
    refused = next(answer for answer in answers if answer.status_code == 403).json()
    assert refused == {"forbidden": {"code": 403, "message": "Quota exceeded, too many key pairs."}}
    await member.delete("/os-keypairs/same")
    await member.post("/os-keypairs", body("again"))


async def test_servers_get_the_key_by_its_name_and_keep_it(bed, member, other):
    await member.post("/os-keypairs", body("login"))
    made = await member.post("/servers", await bed.server_body(key_name="login"), status=202)
    server = await bed.settled(member, made["server"]["id"])
    assert server["key_name"] == "login"
    await member.delete("/os-keypairs/login")
    async with bed.database.read() as connection:
        assert (await connection.execute(select(servers.c.public_key))).scalars().all() == [ED25519]
    for client, name in ((member, "login"), (other, "login"), (member, ""), (member, "k\x00")):
        refusal = await client.refusal("POST", "/servers", await bed.server_body(key_name=name))
        assert refusal[:2] == (400, "badRequest")


async def test_concurrent_creations_share_the_look_up_of_their_key(bed, member):
    await member.post("/os-keypairs", body("login"))
    request = await bed.server_body(key_name="login", flavorRef="guest.tiny")
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        if "FROM keypairs" in statement:
            asked.append(statement)

    engine = bed.database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    answers = await asyncio.gather(*(member.call("POST", "/servers", request) for _ in range(10)))
    event.remove(engine, "before_cursor_execute", note)
    assert {answer.status_code for answer in answers} == {202}
    assert 1 <= len(asked) <= 5
