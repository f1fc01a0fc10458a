"""The Debian packages that the guest consists of: chosen by apt, downloaded into a cache, read without installing.

Invariant: a file in the cache is used only if its SHA-256 is the one that apt's signed index states.
"""

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from muster.base.errors import MusterError, NotFound, Transient
from muster.guest import tools
from muster.guest.tree import Node, Tree, directory, file, link

#: The metapackage whose dependency is the newest kernel for virtual machines.
KERNEL_META = "linux-image-cloud-amd64"
#: Taken alone: static, or pure data.
PLAIN = ("busybox-static", "grub-pc-bin")
#: Programs that are taken with the libraries they need.
LINKED = ("dropbear-bin", "grub-common")

# Of which each version has a name of its own.
_KERNELS = "linux-image-"
_SHOW = ["apt-cache", "show", "--no-all-versions"]
_DEPENDS = [
    *("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"),
    *("--no-breaks", "--no-replaces", "--no-enhances"),
]


class Package(Struct, frozen=True):
    """One version of one package, as apt's index describes it."""

    name: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Name in the cache; the digest keeps rebuilt packages of the same version apart."""
        return f"{self.name}_{self.sha256[:16]}.deb"


def resolve() -> list[Package]:
    """The packages to build from, sorted by name.

    Raises NotFound (code `guest.package_not_found`) if apt does not know one of them. Three processes, no network.
    """
    kernel = kernel_package(_apt([*_SHOW, KERNEL_META]))
    libraries = library_names(_apt([*_DEPENDS, *LINKED]))
    return named({kernel, *PLAIN, *LINKED, *libraries})


def named(names: Iterable[str]) -> list[Package]:
    """The newest versions of these packages, sorted by name.

    Raises NotFound (code `guest.package_not_found`) if apt does not know one of them. One process, no network.
    """
    names = sorted(names)
    found = {package.name: package for package in parse_index(_apt([*_SHOW, *names]))}
    missing = [name for name in names if name not in found]
    if missing:
        raise _unknown(missing)
    return [found[name] for name in names]


def _apt(command: list[str]) -> str:
    try:
        return tools.run(command).stdout
    except MusterError as error:
        if error.code == "guest.tool_failed":
            raise _unknown([command[-1]]) from error
        raise


def _unknown(names: list[str]) -> NotFound:
    return NotFound(
        f"apt does not know {', '.join(names)}; the guest is built from Debian's packages (amd64): "
        "add a Debian source, then run: apt-get update",
        code="guest.package_not_found",
    )


def parse_index(text: str) -> list[Package]:
    """Packages in the output of `apt-cache show`; stanzas without a file to download are left out."""
    found = []
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
        if "SHA256" in fields:
            found.append(Package(fields["Package"], fields["Version"], fields["SHA256"], int(fields["Size"])))
    return found


def kernel_package(text: str) -> str:
    """Name of the kernel that the metapackage depends on. Raises NotFound."""
    match = re.search(r"^Depends: .*?(linux-image-\d[^\s,(]*)", text, re.MULTILINE)
    if match is None:
        raise _unknown([KERNEL_META])
    return match[1]


def library_names(text: str) -> set[str]:
    """Libraries in the output of `apt-cache depends --recurse`: packages stand on the lines that are not indented."""
    names = {line.split(":")[0] for line in text.splitlines() if line and line[0].isalnum()}
    return {name for name in names if name.startswith(("lib", "zlib"))}


def fetch(packages: Iterable[Package], cache_dir: Path, progress: Callable[[str], None]) -> dict[str, Path]:
    """Bring the packages into the cache and return name -> file.

    What is there with the right digest is not fetched again. Raises Transient (code `guest.download`) when the archive
    cannot be reached or gives something else. One process for all packages, none if nothing is missing.
    """
    paths = {package: cache_dir / package.file_name for package in packages}
    missing = [package for package, path in paths.items() if not _is_intact(path, package)]
    if missing:
        total_mb = sum(package.size_bytes for package in missing) / 1e6
        progress(f"downloading {len(missing)} packages ({total_mb:.0f} MB)")
        _download(missing, cache_dir)
    return {package.name: path for package, path in paths.items()}


def remove_older(packages: Iterable[Package], cache_dir: Path) -> None:
    """Remove from the cache other versions of these packages, and other kernels: nothing is built from them any more.

    Packages of other names stay; somebody else may keep them there.
    """
    kept = {package.file_name for package in packages}
    names = {package.name for package in packages}
    for path in cache_dir.glob("*_*.deb"):
        name = path.name.rpartition("_")[0]
        if path.name not in kept and (name in names or name.startswith(_KERNELS)):
            path.unlink(missing_ok=True)


def _is_intact(path: Path, package: Package) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256
    except FileNotFoundError:
        return False


def _download(packages: list[Package], cache_dir: Path) -> None:
    # Run by root, apt would drop to a user who cannot write here.
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root"]
    with tempfile.TemporaryDirectory(dir=cache_dir) as work:
        folder = Path(work)
        try:
            tools.run([*command, *(f"{p.name}={p.version}" for p in packages)], cwd=folder, timeout_s=900)
        except MusterError as error:
            raise Transient(
                f"{error.message}; is apt's index fresh? run: apt-get update", code="guest.download"
            ) from error
        by_name = {path.name.split("_")[0]: path for path in folder.glob("*.deb")}
        for package in packages:
            path = by_name.get(package.name)
            if path is None or not _is_intact(path, package):
                raise Transient(f"apt-get gave no intact file for {package.name}", code="guest.download")
            path.replace(cache_dir / package.file_name)


def read(deb: Path, wanted: Callable[[str], bool]) -> Tree:
    """The wanted files of a package, by path without leading `./`. One process; reads the whole package once."""
    with tempfile.TemporaryFile() as archive:
        tools.pipe(["dpkg-deb", "--fsys-tarfile", str(deb)], archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            members = ((member, member.name.removeprefix("./")) for member in tar)
            nodes = ((path, _node(tar, member)) for member, path in members if wanted(path))
            return {path: node for path, node in nodes if node is not None}


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Node | None:
    if member.isdir():
        return directory(member.mode & 0o7777)
    if member.issym():
        return link(member.linkname)
    content = tar.extractfile(member) if member.isfile() else None
    return file(content.read(), member.mode & 0o7777) if content else None
