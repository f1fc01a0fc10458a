"""The same guest without Muster and libvirt: the QEMU command of a running guest, made into one for a shell. Pure.

Machine, processor, accelerator, memory, devices and drives stay word for word. Invariant: what is left out is what only
libvirt can use: its monitor, the pause at the start, the files that it hands over.
"""

from pathlib import Path

import msgspec

_LEFT_OUT = {"-S", "-mon", "-add-fd"}
_BASE = "libvirt-2-storage"


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What is one guest's own."""

    name: str
    uuid: str
    mac: str
    tap: str
    disk: Path
    base: Path
    console: Path


def by_hand(arguments: list[str], means: Means) -> list[str]:
    """The command for a guest with these means, from the command line (/proc/PID/cmdline) of one under libvirt."""
    command, options = [arguments[0]], _options(arguments[1:])
    uuid = next(value for option, value in options if option == "-uuid")
    for option, value in options:
        if option in _LEFT_OUT or (option == "-object" and '"secret"' in value) or "charmonitor" in value:
            continue
        command.append(option)
        if value:
            command.append(_own(option, value, means).replace(uuid, means.uuid))
    return command


def base_of(arguments: list[str]) -> Path:
    """The file that the guest's disk is a clone of."""
    devices = [msgspec.json.decode(value) for option, value in _options(arguments[1:]) if option == "-blockdev"]
    return Path(next(str(device["filename"]) for device in devices if device["node-name"] == _BASE))


def _options(words: list[str]) -> list[tuple[str, str]]:
    """Options with their values; no value of libvirt's begins with a dash."""
    options: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("-"):
            options.append((word, ""))
        else:
            options[-1] = (options[-1][0], word)
    return options


def _own(option: str, value: str, means: Means) -> str:
    if option == "-name":
        return f"guest={means.name},debug-threads=on"
    if option == "-netdev":
        tap = {"type": "tap", "id": msgspec.json.decode(value)["id"]}
        return _text(tap | {"ifname": means.tap, "script": "no", "downscript": "no"})
    if option == "-chardev" and "charserial0" in value:
        return f"file,id=charserial0,path={means.console},append=on"
    if option in ("-blockdev", "-device"):
        return _text(_placed(msgspec.json.decode(value), means))
    return value


def _placed(device: dict[str, object], means: Means) -> dict[str, object]:
    if "mac" in device:
        device["mac"] = means.mac
    if "filename" in device:
        is_base = device["node-name"] == _BASE
        device["filename"] = str(means.base if is_base else means.disk)
    return device


def _text(value: dict[str, object]) -> str:
    return msgspec.json.encode(value).decode()
