"""When an image is built, and what is left when it is not."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from muster.base.errors import Invalid, NotFound, Unsupported
from muster.cli.guest import guest
from muster.guest import build, disk, packages, payload, tools
from muster.guest.build import ImageInfo, build_image, description_path, recipe
from muster.guest.packages import Package
from muster.guest.payload import Payload

ONE = [Package("busybox-static", "1", "aa", 1)]
TWO = [Package("busybox-static", "2", "bb", 1)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The build with apt and the tools replaced; lists what was written."""
    written: list[Path] = []

    def make(output: Path, *_: object) -> None:
        written.append(output)
        output.write_bytes(b"disk %d" % len(written))

    content = Payload("6.1.0", b"", {}, b"", {}, {}, {})
    monkeypatch.setattr(tools, "require", lambda: None)
    monkeypatch.setattr(packages, "resolve", lambda: ONE)
    monkeypatch.setattr(packages, "fetch", lambda *_: {})
    monkeypatch.setattr(payload, "load", lambda _: content)
    monkeypatch.setattr(payload, "root_tree", lambda *_: {})
    monkeypatch.setattr(build, "_applets", lambda *_: [])
    monkeypatch.setattr(disk, "make", make)
    return written


def run(folder: Path) -> ImageInfo:
    return build_image(folder / "out" / "guest.qcow2", folder / "cache")


def test_a_disk_that_fills_up_is_said(made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came with its stack, as did a directory that is not the user's."""

    def full(output: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(output))

    monkeypatch.setattr(disk, "make", full)
    with pytest.raises(Invalid, match="No space left on device"):
        run(tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_second_build_does_nothing(made: list[Path], tmp_path: Path) -> None:
    assert run(tmp_path) == run(tmp_path)
    assert len(made) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["guest.qcow2", "guest.qcow2.json"]


def test_new_packages_damage_and_a_lost_description_each_build_again(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "guest.qcow2"
    run(tmp_path)
    output.write_bytes(b"damaged")
    run(tmp_path)
    description_path(output).unlink()
    run(tmp_path)
    monkeypatch.setattr(packages, "resolve", lambda: TWO)
    info = run(tmp_path)
    assert len(made) == 4
    assert output.read_bytes() == b"disk 4"
    assert info.recipe == recipe(TWO) != recipe(ONE)


def test_a_build_removes_the_packages_of_the_one_before_and_a_failed_one_does_not(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"

    def fetch(chosen: list[Package], *_: object) -> dict[str, Path]:
        for package in chosen:
            (cache / package.file_name).touch()
        return {}

    def kept() -> list[str]:
        return sorted(path.name for path in cache.glob("*.deb"))

    def broken(_: object) -> Payload:
        raise NotFound("broken")

    monkeypatch.setattr(packages, "fetch", fetch)
    run(tmp_path)
    monkeypatch.setattr(packages, "resolve", lambda: TWO)
    with monkeypatch.context() as patched:
        patched.setattr(payload, "load", broken)
        with pytest.raises(NotFound):
            run(tmp_path)
    assert kept() == [ONE[0].file_name, TWO[0].file_name]
    run(tmp_path)
    assert kept() == [TWO[0].file_name]


def test_without_apt_an_image_that_is_there_serves(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline() -> list[Package]:
        raise NotFound("no index")

    monkeypatch.setattr(packages, "resolve", offline)
    with pytest.raises(NotFound):
        run(tmp_path)
    monkeypatch.setattr(packages, "resolve", lambda: ONE)
    info = run(tmp_path)
    monkeypatch.setattr(packages, "resolve", offline)
    assert run(tmp_path) == info


def test_a_failed_build_leaves_what_was_there(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)

    def fail(*_: object) -> None:
        raise NotFound("broken")

    monkeypatch.setattr(disk, "make", fail)
    monkeypatch.setattr(packages, "resolve", lambda: TWO)
    with pytest.raises(NotFound):
        run(tmp_path)
    assert (tmp_path / "out" / "guest.qcow2").read_bytes() == b"disk 1"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["guest.qcow2", "guest.qcow2.json"]


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tools, "find", lambda name: None if name in ("mke2fs", "debugfs", "qemu-img") else f"/bin/{name}"
    )
    with pytest.raises(Unsupported, match="apt-get install e2fsprogs qemu-utils") as caught:
        tools.require()
    assert caught.value.code == "guest.missing_tools"


def test_command_prints_the_description(made: list[Path], tmp_path: Path) -> None:
    arguments = ["build", "--output", str(tmp_path / "g.qcow2"), "--cache", str(tmp_path / "cache"), "--json"]
    done = CliRunner().invoke(guest, arguments)
    assert done.exit_code == 0, done.output
    assert '"kernel":"6.1.0"' in done.output


def test_command_fails_with_a_plain_message(made: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["build", "--output", str(tmp_path / "file" / "g.qcow2"), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(guest, arguments)
    assert done.exit_code == 1
    assert "cannot write there" in done.output
    assert "Traceback" not in done.output
