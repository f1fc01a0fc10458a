"""Reading apt's answers, and trusting only what has the right digest."""

import hashlib
from pathlib import Path

import pytest

from muster.base.errors import NotFound, Transient
from muster.guest import packages, tools
from muster.guest.packages import Package, fetch, kernel_package, library_names, parse_index, remove_older

INDEX = """\
Package: busybox-static
Version: 1:1.35.0-4+b1
Depends: libc6 (>= 2.36)
Size: 928188
SHA256: 3d3fdbe9
Description: shell
 Version: not this one

Package: virtual-only
Version: 1
"""


def test_index_gives_packages_that_can_be_downloaded() -> None:
    assert parse_index(INDEX) == [Package("busybox-static", "1:1.35.0-4+b1", "3d3fdbe9", 928188)]


def test_kernel_is_what_the_metapackage_depends_on() -> None:
    text = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n"
    assert kernel_package(text) == "linux-image-6.1.0-56-cloud-amd64"
    with pytest.raises(NotFound):
        kernel_package("Package: linux-image-cloud-amd64\n")


def test_libraries_of_a_recursive_listing() -> None:
    text = "dropbear-bin\n  Depends: libc6\n |Depends: libx\nlibc6\n<virtual>\nzlib1g:amd64\ngcc-12-base\n"
    assert library_names(text) == {"libc6", "zlib1g"}


def package_of(content: bytes) -> Package:
    return Package("thing", "1:2", hashlib.sha256(content).hexdigest(), len(content))


def test_intact_file_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_download", lambda *_: pytest.fail("fetched"))
    wanted = package_of(b"content")
    (tmp_path / wanted.file_name).write_bytes(b"content")
    assert fetch([wanted], tmp_path, lambda _: None) == {"thing": tmp_path / wanted.file_name}


def test_damaged_file_is_fetched_and_a_wrong_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = package_of(b"content")
    (tmp_path / wanted.file_name).write_bytes(b"half")
    asked: list[list[str]] = []

    def archive(content: bytes) -> None:
        def run(command: list[str], *, cwd: Path, timeout_s: float) -> None:
            asked.append(command)
            (cwd / "thing_1%3a2_amd64.deb").write_bytes(content)

        monkeypatch.setattr(tools, "run", run)

    archive(b"something else")
    with pytest.raises(Transient):
        fetch([wanted], tmp_path, lambda _: None)
    archive(b"content")
    path = fetch([wanted], tmp_path, lambda _: None)["thing"]
    assert path.read_bytes() == b"content"
    assert asked[-1][-1] == "thing=1:2"
    assert [entry.name for entry in tmp_path.iterdir()] == [wanted.file_name]


def test_of_what_is_built_from_only_the_newest_stays_in_the_cache(tmp_path: Path) -> None:
    now = [Package("linux-image-6.1.0-56-cloud-amd64", "1", "a" * 64, 1), Package("libc6", "2", "b" * 64, 1)]
    before = [
        Package("linux-image-6.1.0-55-cloud-amd64", "1", "c" * 64, 1),
        Package("libc6", "1", "d" * 64, 1),
        Package("libc6", "1", "e" * 64, 1),
    ]
    other = Package("cloud-init", "1", "f" * 64, 1)  # somebody else's
    for package in (*now, *before, other):
        (tmp_path / package.file_name).touch()
    (tmp_path / "lock").touch()
    for _ in range(2):
        remove_older(now, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {one.file_name for one in (*now, other)} | {"lock"}
