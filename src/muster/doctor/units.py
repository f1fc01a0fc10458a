"""systemd's units as files, and which of them are started at boot by the links between them; systemd is not asked."""

from collections.abc import Iterable

from muster.doctor.texts import unit_settings
from muster.doctor.tree import Tree

#: Where systemd looks for units, the strongest first (systemd.unit(5)).
FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_PULLS = ("Wants", "Requires", "BindsTo", "Upholds")
# Only entered by hand, or when something is wrong.
_UNUSUAL = ("rescue.target", "emergency.target", "initrd", "runlevel", "system-update")


def read_units(tree: Tree) -> dict[str, str]:
    """The text of each service, target and socket, with its drop-ins behind it; without those that are masked."""
    found: dict[str, str] = {}
    masked: set[str] = set()
    for folder in FOLDERS:
        for name in tree.named(folder):
            if name.endswith((".service", ".target", ".socket")) and name not in found and name not in masked:
                text = tree.read(f"{folder}/{name}").text
                if text == "" or tree.link(f"{folder}/{name}") == "/dev/null":
                    masked.add(name)
                elif text is not None:
                    found[name] = text
    for folder in FOLDERS:
        for name in tree.named(folder):
            if name.endswith(".d") and name[:-2] in found:
                parts = tree.folder(f"{folder}/{name}", (".conf",))
                found[name[:-2]] += "".join("\n" + (part.text or "") for part in parts.values())
    return found


def read_enabled(tree: Tree, units: dict[str, str]) -> frozenset[str] | None:
    """What is started at boot; None where nobody has enabled anything, so that there may be no systemd here."""
    linked: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for name in tree.named(folder):
            target, _, kind = name.rpartition(".")
            if kind in ("wants", "requires"):
                linked.setdefault(target, set()).update(tree.named(f"{folder}/{name}"))
    if not any(tree.named(f"{FOLDERS[0]}/{target}.wants") for target in linked):
        return None
    return started(units, linked)


def started(units: dict[str, str], linked: dict[str, set[str]]) -> frozenset[str]:
    """The targets that are linked to units, these, and what they pull in, a socket its service among them. Pure."""
    usual = {target: names for target, names in linked.items() if not target.startswith(_UNUSUAL)}
    waiting = [unit for target, names in usual.items() for unit in (target, *names)]
    found: set[str] = set()
    while waiting:
        unit = waiting.pop()
        if unit not in found:
            found.add(unit)
            waiting += [*linked.get(unit, ()), *_pulled(unit, units.get(unit, ""))]
    return frozenset(found)


def _pulled(unit: str, text: str) -> Iterable[str]:
    for setting in _PULLS:
        yield from unit_settings(text, setting)
    stem, _, kind = unit.rpartition(".")
    if kind in ("socket", "timer", "path"):
        yield from unit_settings(text, "Service") or unit_settings(text, "Unit") or [f"{stem}.service"]
