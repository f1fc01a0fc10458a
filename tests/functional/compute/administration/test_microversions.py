"""Version discovery, and microversions negotiated as Nova does it."""

import pytest

from muster.api.http.routing import Route
from muster.domain.policies import Rule


async def test_the_version_documents_need_no_token(bed):
    http = bed.client("").http
    root = await http.get("/")
    assert root.status_code == 200
    [old, version] = root.json()["versions"]
    assert (old["id"], old["min_version"], old["version"], old["status"]) == ("v2.0", "", "", "SUPPORTED")
    assert (version["id"], version["min_version"], version["version"]) == ("v2.1", "2.1", "2.96")
    assert version["links"] == [{"rel": "self", "href": "http://cloud/v2.1/"}]
    for path in ("/v2.1", "/v2.1/"):
        shown = (await http.get(path)).json()["version"]
        assert (shown["id"], shown["status"], shown["media-types"][0]["base"]) == (
            "v2.1",
            "CURRENT",
            "application/json",
        )


async def test_a_path_outside_of_any_version_is_answered_with_the_choices(bed):
    response = await bed.client("").http.get("/flavors/1")
    assert response.status_code == 300
    [old, choice] = response.json()["choices"]
    assert old["links"] == [{"rel": "self", "href": "http://cloud/v2/flavors/1"}]
    assert choice["links"] == [{"rel": "self", "href": "http://cloud/v2.1/flavors/1"}]


async def test_the_old_name_knows_no_microversions(member):
    http, token = member.http, {"X-Auth-Token": member.token}
    for path in ("/v2", "/v2/"):
        shown = (await http.get(path)).json()["version"]
        assert (shown["id"], shown["links"][0]["href"]) == ("v2.0", "http://cloud/v2/")
    answer = await http.get("/v2/flavors/1", headers={**token, "OpenStack-API-Version": "compute 2.61"})
    assert answer.status_code == 200
    assert "extra_specs" not in answer.json()["flavor"]
    assert (await http.get("/v2/flavors/1", headers={**token, "OpenStack-API-Version": "nonsense"})).status_code == 200
    assert (await http.get("/v2/flavors/1")).status_code == 401
    assert (await http.get("/v2/nothing", headers=token)).status_code == 404


async def test_a_collection_is_not_a_thing_without_a_name(member):
    assert (await member.call("GET", "/flavors/")).status_code == 404


SPOKEN = [
    ({}, "2.1"),
    ({"OpenStack-API-Version": "compute 2.53"}, "2.53"),
    ({"OpenStack-API-Version": "COMPUTE  2.53"}, "2.53"),
    ({"OpenStack-API-Version": "volume 3.1, compute 2.7"}, "2.7"),
    ({"OpenStack-API-Version": "compute 2.7, compute 2.8"}, "2.8"),
    ({"OpenStack-API-Version": "volume 3.1"}, "2.1"),
    ({"OpenStack-API-Version": "compute latest"}, "2.96"),
    ({"X-OpenStack-Nova-API-Version": "2.60"}, "2.60"),
    ({"X-OpenStack-Nova-API-Version": "latest"}, "2.96"),
    ({"X-OpenStack-Nova-API-Version": "2.60", "OpenStack-API-Version": "compute 2.61"}, "2.61"),
    ({"X-OpenStack-Nova-API-Version": "2.60", "OpenStack-API-Version": "volume 3.1"}, "2.60"),
]
NOT_OFFERED = ["2.97", "2.0", "1.9", "3.1", "2.999", "99.99"]
NO_VERSIONS = ["2", "two", "2.", "2.01", "02.1", "2.1.1", "2.-1", "v2.1", "LATEST", "2.1 x"]


async def test_what_is_asked_for_is_spoken(member):
    for headers, spoken in SPOKEN:
        response = await member.http.get("/v2.1/flavors", headers={"X-Auth-Token": member.token, **headers})
        assert response.status_code == 200
        assert response.headers["OpenStack-API-Version"] == f"compute {spoken}", headers
        assert response.headers["X-OpenStack-Nova-API-Version"] == spoken
        assert response.headers["Vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version"


async def test_what_is_not_offered_is_406_and_what_is_no_version_is_400(member):
    for version in NOT_OFFERED:
        response = await member.call("GET", "/flavors", v=version)
        text = f"Version {version} is not supported by the API. Minimum is 2.1 and maximum is 2.96."
        assert response.status_code == 406
        assert response.json() == {"computeFault": {"code": 406, "message": text}}
        assert response.headers["OpenStack-API-Version"] == f"compute {version}"
    for version in NO_VERSIONS:
        status, name, message = await member.refusal("GET", "/flavors", v=version)
        assert (status, name) == (400, "badRequest")
        text = f"API Version String {version} is of invalid format. Must be of format MajorNum.MinorNum."
        assert message == text


async def test_errors_tell_the_version_too_and_a_missing_token_comes_first(bed, member):
    response = await member.call("GET", "/flavors/none", v="2.61")
    assert (response.status_code, response.headers["X-OpenStack-Nova-API-Version"]) == (404, "2.61")
    assert (await bed.client("").call("GET", "/flavors", v="nonsense")).status_code == 401
    assert (await member.call("GET", "/nothing-here", v="2.61")).status_code == 404
    refused = await member.call("PATCH", "/flavors")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, POST")
    assert (await member.call("GET", "/flavors/%00")).status_code == 404


@pytest.mark.parametrize(
    ("version", "since", "until", "offered"),
    [
        ((2, 53), None, None, True),
        ((2, 53), (2, 53), None, True),
        ((2, 52), (2, 53), None, False),
        ((2, 52), None, (2, 52), True),
        ((2, 53), None, (2, 52), False),
        ((2, 10), (2, 9), (2, 11), True),
    ],
)
def test_a_route_is_there_between_its_versions(version, since, until, offered):
    route = Route(None, Rule.ADMIN, since=since, until=until)  # type: ignore[arg-type]
    assert route.offered(version) is offered
