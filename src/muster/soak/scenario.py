"""What a soak is asked to do: a TOML or YAML file, and the command's options over it."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import yaml

from muster.base.errors import Invalid

MOST_USERS = 1_000
# What users do between creating a server and deleting it, and how often, relative to each other.
DEFAULT_MIX: dict[str, float] = {
    "read": 4,
    "metadata": 2,
    "reboot": 2,
    "hard_reboot": 1,
    "stop_start": 2,
    "interface": 2,
    "security_group": 1,
    "rebuild": 1,
    "move": 1,
}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One soak. Images, flavors and networks are named by name or id.

    users         lives of servers at a time, at most; who moves has two servers meanwhile
    rate_per_min  lives begun per minute, over all users; 0: each user begins the next when the one before is over
    duration_s    how long lives are begun; what is alive then is brought to its end. In a file also "90s", "30m", "8h"
    image, flavor None: the only one there is; for flavors the smallest
    network       "auto": the only one that is not external
    availability_zone None: the cloud's choice
    ping, ssh     whether guests are pinged, and logged into by ssh, once they are ACTIVE and after what restarts them
    activities    between creation and deletion: at least and at most so many, drawn by `mix`
    think_s       seconds between two of them, at least and at most
    timeout_s     of each operation
    mix           weights of activities; what is not named is not done. Empty: the default mix
    allowed_percent operations that may fail before the soak's exit status says so
    versions      files that say what hosts run: a table host -> part -> version, or what `muster doctor --json` printed
    seed          of what users draw; None: another one each time
    cloud         the name in clouds.yaml; None: as OS_CLOUD says, or the only one
    config_files  clouds.yaml files to read instead of the standard places
    """

    users: int = 5
    rate_per_min: float = 6.0
    duration_s: float = 3600.0
    image: str | None = None
    flavor: str | None = None
    network: str = "auto"
    availability_zone: str | None = None
    ping: bool = False
    ssh: bool = False
    user: str = "root"
    ssh_port: int = 22
    activities: tuple[int, int] = (2, 6)
    think_s: tuple[float, float] = (1.0, 5.0)
    timeout_s: float = 300.0
    mix: dict[str, float] = {}
    allowed_percent: float = 0.0
    versions: tuple[str, ...] = ()
    seed: int | None = None
    cloud: str | None = None
    config_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises Invalid for values that make no soak."""
        for ok, problem in _checks(self):
            if not ok:
                raise Invalid(problem)

    @property
    def weights(self) -> dict[str, float]:
        """The mix that counts."""
        return self.mix or DEFAULT_MIX


def _checks(wanted: Scenario) -> list[tuple[bool, str]]:
    least, most = wanted.activities
    shortest_s, longest_s = wanted.think_s
    unknown = wanted.mix.keys() - DEFAULT_MIX.keys()
    return [
        (1 <= wanted.users <= MOST_USERS, f"users must be between 1 and {MOST_USERS}"),
        (0 <= wanted.rate_per_min <= 60_000, "rate_per_min must be between 0 and 60000"),
        (0 < wanted.duration_s < 366 * 86_400, "the duration must be more than 0 s and less than a year"),
        (0 < wanted.timeout_s <= 86_400, "timeout_s must be more than 0 and at most a day"),
        (0 <= least <= most <= 1_000, "activities must be two numbers, the smaller one first, at most 1000"),
        (0 <= shortest_s <= longest_s <= 86_400, "think_s must be two numbers, the smaller one first, at most a day"),
        (not unknown, f"no such activity: {', '.join(sorted(unknown))}; there are: {', '.join(DEFAULT_MIX)}"),
        (
            all(0 <= weight < 1e6 for weight in wanted.mix.values()) and sum(wanted.weights.values()) > 0,
            "the weights of the mix must be 0 or more, and not all 0",
        ),
        (0 <= wanted.allowed_percent <= 100, "allowed_percent must be between 0 and 100"),
        (0 < wanted.ssh_port < 65_536, "the ssh port must be between 1 and 65535"),
    ]


def seconds(text: object) -> float:
    """A duration: 90, "90s", "30m", "1.5h", "2d". Raises Invalid for anything else."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise Invalid(f"not a duration: {text!r}; say for example 90s, 30m, 8h or 2d")
    return float(found[1]) * _UNITS_S[found[2] or "s"]


def read_table(path: Path) -> dict[str, Any]:
    """A TOML, YAML or JSON file, by its suffix, as a table. Raises Invalid for what is none."""
    try:
        text = path.read_text()
        found = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:  # not UTF-8, not TOML, not YAML
        raise Invalid(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no table of names and values")
    return {str(name): value for name, value in found.items()}


def scenario(file: Path | None, options: dict[str, Any]) -> Scenario:
    """The file's values with the options over them; options that are None say nothing. Raises Invalid."""
    values = read_table(file) if file is not None else {}
    if "duration" in values:
        values["duration_s"] = values.pop("duration")
    if "duration_s" in values:
        values["duration_s"] = seconds(values["duration_s"])
    if file is not None and isinstance(values.get("versions"), list):  # relative to the file that names them
        values["versions"] = [str(file.parent / str(name)) for name in values["versions"]]
    values |= {name: value for name, value in options.items() if value not in (None, ())}
    for name in ("versions", "config_files"):  # whoever resumes the soak may do so from another folder
        if isinstance(values.get(name), (list, tuple)):
            values[name] = [os.path.abspath(str(path)) for path in values[name]]
    try:
        return msgspec.convert(values, Scenario)
    except msgspec.ValidationError as error:
        raise Invalid(f"{file or 'the options'}: {error}") from error
