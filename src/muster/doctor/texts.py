"""The languages of the files that are read, as far as the checks need them. Pure; no text makes them raise."""

import contextlib
import ipaddress
import re
from itertools import pairwise

Version = tuple[int, ...]

_PACKAGES = {
    "qemu-system-x86": "qemu",
    "qemu-system-arm": "qemu",
    "qemu-kvm": "qemu",
    "libvirt-daemon": "libvirt",
    "openvswitch-switch": "openvswitch",
    "dnsmasq-base": "dnsmasq",
}
_RPMS = {
    "qemu-kvm": "qemu",
    "qemu-kvm-core": "qemu",
    "qemu-system-x86": "qemu",
    "qemu-system-x86-core": "qemu",
    "qemu-x86": "qemu",
    "libvirt-daemon": "libvirt",
    "dnsmasq": "dnsmasq",
}
# Some repositories have a package for each version: openvswitch3.1.
_RPM_OF_SWITCH = re.compile(r"openvswitch(\d+\.\d+)?")
_NUMBERS = re.compile(r"\d{1,9}(?:\.\d{1,9})+")
# What is wanted of it (`hold`, by apt-mark) says nothing of what is there.
_INSTALLED = re.compile(r"^Status: \S+ ok installed$", re.MULTILINE)
_DEBIAN_KERNEL = re.compile(r"Debian (\d{1,9}\.\d{1,9}\.\d{1,9})")


def whole_number(text: str | None) -> int | None:
    """A decimal number of a sane length."""
    text = (text or "").strip()
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


def version(text: str) -> Version:
    """`2:9.0.0-4+deb12u2` as (9, 0, 0): the numbers that the authors gave, without epoch and distribution's part."""
    upstream = text.rpartition(":")[2].partition("-")[0].partition("+")[0]
    numbers = _NUMBERS.match(upstream.strip())
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def first_version(text: str) -> Version | None:
    """The first thing in a text that looks like a version."""
    numbers = _NUMBERS.search(text[:10_000])
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else None


def dotted(value: Version) -> str:
    """As people write it."""
    return ".".join(map(str, value))


def is_within(value: Version, at_least: Version, below: Version) -> bool:
    """Whether a version is in [at_least, below); an empty bound is none. 9.0 is the same as 9.0.0."""
    return (not at_least or _filled(value) >= _filled(at_least)) and (not below or _filled(value) < _filled(below))


def _filled(value: Version) -> Version:
    return (*value, 0, 0, 0, 0)[: max(4, len(value))]


def dpkg_versions(status: str) -> dict[str, Version]:
    """The parts of a host by dpkg's database (`/var/lib/dpkg/status`)."""
    found: dict[str, Version] = {}
    for paragraph in status.split("\n\n"):
        name = re.match(r"Package: (\S+)", paragraph.lstrip("\n"))
        if name is None or name[1] not in _PACKAGES or not _INSTALLED.search(paragraph):
            continue
        number = re.search(r"^Version: (\S+)", paragraph, re.MULTILINE)
        if number is not None and version(number[1]):
            found[_PACKAGES[name[1]]] = version(number[1])
    return found


def part_of_rpm(name: str) -> str | None:
    """Which part of a host a package of RPM is."""
    return "openvswitch" if _RPM_OF_SWITCH.fullmatch(name) else _RPMS.get(name)


def kernel_version(release: str, banner: str, signature: str) -> Version | None:
    """The kernel's own version. None for kernels that keep an old number while everything under it changes (RHEL).

    Debian and Ubuntu number their kernels by their ABI; which release it is stands in `/proc/version`, and in
    `/proc/version_signature`.
    """
    if re.search(r"\.el\d", release):
        return None
    debian = _DEBIAN_KERNEL.search(banner)
    last = "".join(signature.rsplit(maxsplit=1)[-1:])
    return version(debian[1] if debian else last) or version(release) or None


def libvirt_settings(text: str) -> dict[str, str]:
    """`name = value` lines of libvirt's configuration files; quotes are taken off, lists kept as one line."""
    found = {}
    said = "\n".join(map(_without_comment, text.splitlines()))
    for line in re.sub(r"\[[^\[\]]*\]", lambda match: match[0].replace("\n", " "), said).splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value.strip().strip('"')
    return found


def _without_comment(line: str) -> str:
    """What stands before a # that is behind all quotes; nothing of a line that begins with one. One pass."""
    if line.lstrip().startswith("#"):
        return ""
    quoted = max(line.rfind('"'), line.rfind("'")) + 1
    return line[:quoted] + line[quoted:].partition("#")[0]


def oslo_settings(text: str) -> dict[tuple[str, str], str]:
    """(section, name) to value of a file of oslo.config; the last one of a name counts."""
    found = {}
    section = "DEFAULT"
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("[") and bare.endswith("]"):
            section = bare[1:-1].strip()
        elif not bare.startswith(("#", ";")) and not line[:1].isspace():
            sign = min((sign for sign in "=:" if sign in bare), key=bare.find, default="=")
            name, there, value = bare.partition(sign)
            if there:
                found[section, name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def rabbitmq_settings(text: str) -> dict[str, str]:
    """`name = value` lines of rabbitmq.conf."""
    lines = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, equals, value in lines if equals}


def dnsmasq_options(argv: tuple[str, ...], files: list[str]) -> dict[str, list[str]]:
    """Long options of a dnsmasq, from its arguments and its files, with their values."""
    found: dict[str, list[str]] = {}
    lines = []
    for argument, following in zip(argv[1:], (*argv[2:], ""), strict=False):
        beside = "" if following.startswith("-") else f"={following}"
        name = _SHORT.get(argument[:2])
        if name is not None:
            lines.append(f"{name}={argument[2:]}" if argument[2:] else name + beside)
        elif argument.startswith("--"):
            lines.append(argument[2:] if "=" in argument else argument[2:] + beside)
    for text in files:
        lines += [line.split("#")[0] for line in text.splitlines()]
    for line in lines:
        name, _, value = line.strip().partition("=")
        if name.strip():
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def leases_in(dhcp_range: str) -> int | None:
    """How many leases a `dhcp-range` of IPv4 has room for; None where that depends on an interface's netmask, or on
    other things; 0 for one of IPv6, which has none of IPv4's (dnsmasq(8))."""
    words = [word.strip() for word in dhcp_range.split(",") if ":" not in word or word.count(":") > 1]
    if any(":" in word for word in words):
        return 0
    found = []
    for word in words:
        with contextlib.suppress(ValueError):
            found.append(ipaddress.IPv4Address(word))
    if len(found) >= 2 and "static" not in words and "proxy" not in words:
        return max(0, int(found[1]) - int(found[0]) + 1)
    if len(found) >= 2 and "static" in words:  # the second is the netmask
        return 2**32 - int(found[1])
    return None


_SHORT = {"-i": "interface", "-z": "bind-interfaces", "-X": "dhcp-lease-max", "-6": "dhcp-script", "-F": "dhcp-range"}


def unit_settings(text: str, name: str) -> list[str]:
    """The words of one setting of a unit, over all its lines.

    Dependencies cannot be taken back by an empty line (systemd.unit(5)); of what takes one word the last counts.
    """
    words: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and key.strip() == name:
            words += value.split()
    return words


def limit(text: str, name: str) -> float | None:
    """The soft limit of a line of `/proc/PID/limits` (proc(5)); infinity for unlimited."""
    for line in text.splitlines():
        if line.startswith(name):
            words = line[len(name) :].split()
            if words and words[0] == "unlimited":
                return float("inf")
            if words and words[0].isascii() and words[0].isdigit() and len(words[0]) < 21:
                return float(words[0])
    return None


def values(argv: tuple[str, ...], long: str, short: str = "") -> list[str]:
    """What an option was given, in any of the ways of getopt_long(3)."""
    found = [argument.partition("=")[2] for argument in argv if argument.startswith(long + "=")]
    found += [value for argument, value in pairwise(argv) if argument in (long, short)]
    return found + [argument[2:] for argument in argv if short and argument.startswith(short) and len(argument) > 2]


def for_people(path: str) -> str:
    """A path as somebody who changes the file needs it: `/proc/9/root/etc/x` is `/etc/x` for that process."""
    found = _INSIDE.fullmatch(path)
    return f"{found[2]} as process {found[1]} sees it" if found else path


_INSIDE = re.compile(r"/proc/(\d+)/root(/.*)")


def root_mount(mountinfo: str) -> str:
    """The number of the mount that a process sees as its root, of which the kernel has one (proc(5)); empty: none."""
    found = [
        words[0] for line in mountinfo.splitlines() if len(words := line.split(maxsplit=5)) > 4 and words[4] == "/"
    ]
    return found[-1] if found else ""


def interfaces(text: str) -> str:
    """The names of the interfaces in `/proc/PID/net/dev`, in one line."""
    return " ".join(sorted(line.partition(":")[0].strip() for line in text.splitlines() if ":" in line))


def parent_pid(status: str) -> int | None:
    """The parent by `/proc/PID/status`."""
    found = re.search(r"^PPid:\s*(\d{1,9})$", status, re.MULTILINE)
    return int(found[1]) if found else None


def started_s(stat: str, machine: str) -> float | None:
    """When a process started, in seconds since 1970, by `/proc/PID/stat` and the `btime` of `/proc/stat` (proc(5))."""
    words = stat.rpartition(")")[2].split()  # a program's name may have blanks and parentheses
    booted = re.search(r"^btime (\d{1,12})$", machine, re.MULTILINE)
    ticks = whole_number(words[19]) if len(words) > 19 else None
    return None if booted is None or ticks is None else int(booted[1]) + ticks / _TICKS_PER_S


_TICKS_PER_S = 100  # USER_HZ


def kernel_counters(text: str) -> dict[str, list[int]]:
    """The columns of a table of `/proc/net/stat`: a line of names, then one of hexadecimal numbers per processor."""
    names, *rows = [line.split() for line in text.splitlines()] or [[]]
    numbers = [[int(word, 16) if _HEX.fullmatch(word) else 0 for word in row] for row in rows]
    return {name: [row[place] for row in numbers if place < len(row)] for place, name in enumerate(names)}


_HEX = re.compile(r"[0-9a-f]{1,16}")
