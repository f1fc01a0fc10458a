"""What the project of a fresh cloud's administrator may have."""

from pathlib import Path

import httpx

from muster.cli.cloud import CloudSettings, running

AUTH = {
    "identity": {
        "methods": ["password"],
        "password": {"user": {"name": "admin", "domain": {"id": "default"}, "password": "secret"}},
    },
    "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
}


async def test_no_quota_but_the_limits_of_single_requests(tmp_path: Path) -> None:
    async with running(CloudSettings(folder=tmp_path, sim_hosts=0), "secret") as cloud:
        transport = httpx.ASGITransport(cloud.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as client:
            answer = await client.post("/identity/v3/auth/tokens", json={"auth": AUTH})
            token = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
            limits = (await client.get("/compute/v2.1/limits", headers=token)).json()["limits"]["absolute"]
    assert (limits["maxTotalInstances"], limits["maxTotalKeypairs"]) == (-1, -1)
    assert (limits["maxPersonality"], limits["maxPersonalitySize"], limits["maxServerMeta"]) == (5, 10_240, 128)
