"""What a soak may be asked to do, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from muster.base.errors import Invalid
from muster.soak.scenario import DEFAULT_MIX, Scenario, scenario, seconds


@pytest.mark.parametrize(
    ("text", "wanted"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("30m", 1800), (" 2d ", 172_800), (7, 7)]
)
def test_durations_are_written_as_people_write_them(text: str | float, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "h", "-3s", "3 weeks", "1e3s", "nan", [8], None, True])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(Invalid, match="not a duration"):
        seconds(text)


TOML = 'users = 3\nduration = "8h"\nthink_s = [0.5, 2]\nversions = ["hosts.toml"]\n[mix]\nreboot = 3\nread = 1\n'
YAML = "users: 3\nduration: 8h\nthink_s: [0.5, 2]\nversions: [hosts.toml]\nmix: {reboot: 3, read: 1}\n"


@pytest.mark.parametrize(("name", "text"), [("a.toml", TOML), ("a.yaml", YAML)])
def test_options_come_before_the_file(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    found = scenario(file, {"users": 9, "rate_per_min": None, "mix": None, "versions": ()})
    assert (found.users, found.duration_s, found.think_s) == (9, 28_800, (0.5, 2.0))
    assert found.weights == {"reboot": 3, "read": 1}
    assert found.versions == (str(tmp_path / "hosts.toml"),)
    assert found.rate_per_min == Scenario().rate_per_min


def test_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever resumed a soak from another folder was told that they cannot be read."""
    monkeypatch.chdir(tmp_path)
    found = scenario(None, {"versions": ("doctor/one.json",), "config_files": ("clouds.yaml",)})
    assert found.versions == (str(tmp_path / "doctor" / "one.json"),)
    assert found.config_files == (str(tmp_path / "clouds.yaml"),)


def test_without_a_mix_users_do_all_there_is() -> None:
    assert Scenario().weights == DEFAULT_MIX


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_count = 3", "user_count"),
        ("users = 'many'", "users"),
        ("users = 0", "users must be between"),
        ("mix = {juggle = 1}", "no such activity: juggle; there are: read"),
        ("mix = {read = 0}", "not all 0"),
        ("mix = {read = nan}", "weights"),
        ("think_s = [3, 1]", "think_s"),
        ("activities = [1]", "activities"),
        ("duration = 'long'", "not a duration"),
        ("rate_per_min = inf", "rate_per_min"),
        ("users = ", ""),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        scenario(file, {})
    assert said in caught.value.message


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"- a list", b"{unclosed"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=r"bad\.yaml"):
        scenario(file, {})


@pytest.mark.parametrize("changes", [{"timeout_s": 0}, {"duration_s": 0}, {"ssh_port": 0}, {"allowed_percent": 101}])
def test_values_that_make_no_soak_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Scenario(**changes)
