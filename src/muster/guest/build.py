"""Building the test guest's image, and knowing when there is nothing to build.

Invariants: the output appears whole or not at all (a temporary file in the same directory, renamed); its description
`OUTPUT.json` is renamed after it and names its digest, so that a crash between the two only costs a rebuild; the
recipe in the description is a digest of everything that decides the image's bytes.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec
from msgspec import Struct

from muster.base.errors import Invalid, MusterError
from muster.base.units import GIB
from muster.guest import disk, packages, payload, tools
from muster.guest.packages import Package

#: What the guest needs to boot and to be of use.
MIN_RAM_MIB = 96

Progress = Callable[[str], None]


class PackageVersion(Struct, frozen=True):
    """A package that the image was built from."""

    name: str
    version: str


class ImageInfo(Struct, frozen=True, kw_only=True):
    """What is known about a built image; the content of `OUTPUT.json`."""

    disk_format: str = "qcow2"
    container_format: str = "bare"
    size_bytes: int
    sha512: str
    virtual_size_bytes: int
    min_ram_mib: int
    min_disk_gib: int
    architecture: str = "x86_64"
    kernel: str
    packages: list[PackageVersion]
    recipe: str


def build_image(output: Path, cache_dir: Path, progress: Progress | None = None) -> ImageInfo:
    """Build the guest's image at `output`, unless one from the same input is there, and describe it.

    Blocking: a few seconds, plus the download of about 40 MB into `cache_dir` the first time; about two seconds when
    there is nothing to do. `progress` is told each step. Two calls with one cache directory wait for each other.
    Raises Unsupported when a program is missing, NotFound when apt does not know a package, Transient when the
    archive cannot be reached, Invalid when a path cannot be written.
    """
    say = progress or (lambda step: None)
    tools.require()
    with _prepared(output, cache_dir):
        known = built_image(output)
        say("asking apt for packages")
        chosen = _resolve(known)
        wanted = recipe(chosen) if chosen else ""
        if known is not None and (not chosen or known.recipe == wanted):
            return known
        info = _build(output, packages.fetch(chosen, cache_dir, say), chosen, say)
        described = _describe_file(output.parent, info)
        described.replace(description_path(output))
        packages.remove_older(chosen, cache_dir)
        return info


def description_path(output: Path) -> Path:
    """Where the description of an image stands: beside it."""
    return output.with_name(output.name + ".json")


def built_image(output: Path) -> ImageInfo | None:
    """The description of an image that is there and is what it says; otherwise None. Reads the whole image."""
    try:
        info = msgspec.json.decode(description_path(output).read_bytes(), type=ImageInfo)
        return info if _sha512(output) == info.sha512 else None
    except (OSError, msgspec.MsgspecError):
        return None


def recipe(chosen: list[Package]) -> str:
    """Digest of all that decides the image: the packages' own digests, and this package's programs and files."""
    digest = hashlib.sha256(msgspec.json.encode(chosen))
    for path, content in _sources(resources.files("muster.guest")):
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name == "files":
            yield from _sources(entry)
        elif entry.is_file():
            yield entry.name, entry.read_bytes()


def _resolve(known: ImageInfo | None) -> list[Package]:
    """The packages to use; none if apt cannot say (an offline machine without index) but an image is there."""
    try:
        return packages.resolve()
    except MusterError:
        if known is None:
            raise
        return []


@contextmanager
def _prepared(output: Path, cache_dir: Path) -> Iterator[None]:
    """The directories, and the right to use them alone. What cannot be written in the block is said, too."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        with (cache_dir / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise Invalid(f"cannot write there: {error}", code="guest.bad_path") from error


def _build(output: Path, debs: dict[str, Path], chosen: list[Package], say: Progress) -> ImageInfo:
    with tempfile.TemporaryDirectory(prefix=".guest-", dir=output.parent) as folder:
        work = Path(folder)
        say("unpacking packages")
        content = payload.load(debs)
        say("writing file systems")
        image = work / "guest.qcow2"
        disk.make(image, content, payload.root_tree(content, _applets(content.busybox, work)), work)
        info = ImageInfo(
            size_bytes=image.stat().st_size,
            sha512=_sha512(image),
            virtual_size_bytes=disk.VIRTUAL_SIZE_BYTES,
            min_ram_mib=MIN_RAM_MIB,
            min_disk_gib=-(-disk.VIRTUAL_SIZE_BYTES // GIB),
            kernel=content.kernel_version,
            packages=[PackageVersion(package.name, package.version) for package in chosen],
            recipe=recipe(chosen),
        )
        _sync(image)
        image.replace(output)
    return info


def _applets(busybox: bytes, work: Path) -> list[str]:
    """The names that this busybox answers to; it alone knows them."""
    program = work / "busybox"
    program.write_bytes(busybox)
    program.chmod(0o755)
    return tools.run([str(program), "--list"]).stdout.split()


def _describe_file(folder: Path, info: ImageInfo) -> Path:
    handle, name = tempfile.mkstemp(prefix=".guest-", dir=folder)
    with os.fdopen(handle, "wb") as described:
        described.write(msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
    Path(name).chmod(0o644)
    return Path(name)


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _sha512(path: Path) -> str:
    with path.open("rb") as image:
        return hashlib.file_digest(image, "sha512").hexdigest()
