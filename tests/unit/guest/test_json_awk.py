"""The guest's JSON reader, run with this machine's awk: metadata come from outside and must not confuse it."""

import json
import shutil
import subprocess
from importlib import resources

import pytest

AWK = shutil.which("awk") or ""
pytestmark = pytest.mark.skipif(not AWK, reason="not installed: awk")


def flatten(text: str) -> tuple[int, dict[str, str]]:
    program = str(resources.files("muster.guest").joinpath("files", "json.awk"))
    done = subprocess.run([AWK, "-f", program], input=text, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, dict(line.split("\t") for line in done.stdout.splitlines())


@pytest.mark.parametrize("indent", [None, 2])
def test_scalars_by_path(indent: int | None) -> None:
    described = {
        "hostname": "vm",
        "meta": {"odd": 'say "hostname": "no", \\ {x} [y]', "tab": "a\tb\nc"},
        "public_keys": {"k": "ssh-ed25519 AAAA me\n"},
        "list": [1, {"deep": None}, [], {}],
        "umlaut": "ä",
        "on": True,
        "number": -1.5e3,
    }
    status, found = flatten(json.dumps(described, indent=indent))
    assert status == 0
    assert found == {
        "hostname": "vm",
        "meta/odd": 'say "hostname": "no", \\ {x} [y]',
        "meta/tab": "a b c",
        "public_keys/k": "ssh-ed25519 AAAA me ",
        "list/0": "1",
        "list/1/deep": "null",
        "umlaut": "ä",
        "on": "true",
        "number": "-1500.0",
    }


@pytest.mark.parametrize("text", ["", "{", '{"a":', '{"a" 1}', '{"a":1} x', "<html>", '"\\u12"', '"\\x"', '"open'])
def test_what_is_not_json_is_refused(text: str) -> None:
    assert flatten(text)[0] == 1
