"""Where a lab keeps its things: a folder that only its owner can read.

lab.json              what the lab is made of (`plan.Plan`)
secrets.json          passwords of the engines, and the cloud's secret
clouds.yaml           for clients
metrics-targets.json  for Prometheus
log/PART.log          what each part says
parts/PART/           what each part keeps
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Struct

from muster.base.errors import Conflict, Invalid, NotFound
from muster.lab.engines import postgresql, rabbitmq
from muster.lab.network import namespace
from muster.lab.plan import Kind, Part, Plan

_PLAN = "lab.json"
_SECRETS = "secrets.json"
#: All that a lab makes in its folder.
ENTRIES = (_PLAN, _SECRETS, "clouds.yaml", "metrics-targets.json", "log", "parts", "shared")


class Secrets(Struct, frozen=True, kw_only=True):
    """The engines' passwords and the cloud's secret, drawn at random for each lab."""

    postgresql: str
    etcd: str
    etcd_root: str
    rabbitmq: str
    cloud: str  # what the workers of all control machines share

    def __repr__(self) -> str:
        return "Secrets(...)"


class Site(Struct, frozen=True, kw_only=True):
    """A lab's folder, plan and secrets; `environment` is that of Muster's own processes."""

    folder: Path
    plan: Plan
    secrets: Secrets
    environment: Mapping[str, str]

    def part_folder(self, part: Part) -> Path:
        """What a part keeps."""
        return self.folder / "parts" / part.name

    @property
    def images(self) -> Path:
        """What control machines share, unless each has images of its own."""
        return self.folder / "shared" / "images"

    def log(self, part: Part) -> Path:
        """What it says."""
        return self.folder / "log" / f"{part.name}.log"

    def namespace(self, part: Part) -> str:
        """Where it runs."""
        return namespace(self.plan.lab_id, part.name)

    @property
    def database_url(self) -> str:
        """PostgreSQL, with its password."""
        [part] = self.plan.of(Kind.POSTGRESQL)
        return f"postgresql://muster:{quote(self.secrets.postgresql)}@{part.address}:{postgresql.PORT}/muster"

    @property
    def locks_url(self) -> str:
        """All members of etcd, with the password."""
        members = ",".join(f"{part.address}:2379" for part in self.plan.of(Kind.ETCD))
        lease_s = self.plan.settings.lock_lease_s
        return f"etcd://muster:{quote(self.secrets.etcd)}@{members}?lease_s={lease_s}"

    @property
    def bus_url(self) -> str:
        """RabbitMQ, with its password."""
        [part] = self.plan.of(Kind.RABBITMQ)
        return f"amqp://muster:{quote(self.secrets.rabbitmq)}@{part.address}:{rabbitmq.PORT}"


def make(folder: Path, plan: Plan, environment: Mapping[str, str]) -> Site:
    """Write down a new lab, before anything of it is made. Raises Conflict when the folder has other things in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in ("lock", *ENTRIES))
    if strange and not (folder / _PLAN).exists():
        raise Conflict(f"{folder} holds other things ({', '.join(strange[:3])}); a lab wants a folder of its own")
    if (folder / _PLAN).exists():
        raise Conflict(f"there is a lab in {folder} already; see `muster lab status`, end it with `muster lab down`")
    folder.chmod(0o700)
    for name in ("log", "parts", "shared"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    (folder / "shared" / "images").mkdir(mode=0o700, exist_ok=True)
    drawn = {field: secrets.token_urlsafe(32) for field in Secrets.__struct_fields__}
    site = Site(folder=folder, plan=plan, secrets=Secrets(**drawn), environment=environment)
    write_private(folder / _SECRETS, msgspec.json.encode(site.secrets))
    write_private(folder / _PLAN, msgspec.json.format(msgspec.json.encode(plan)))
    return site


def load(folder: Path, environment: Mapping[str, str]) -> Site:
    """The lab of a folder. Raises NotFound when there is none, Invalid when its records cannot be read, Conflict when
    they are damaged.
    """
    try:
        plan = msgspec.json.decode((folder / _PLAN).read_bytes(), type=Plan)
        found = msgspec.json.decode((folder / _SECRETS).read_bytes(), type=Secrets)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no lab in {folder}; `muster lab up --data {folder}` makes one") from error
    except OSError as error:
        raise Invalid(f"the lab in {folder} cannot be read: {error.strerror}; a lab is root's: use sudo") from error
    except msgspec.MsgspecError as error:
        raise Conflict(f"the records of the lab in {folder} are damaged; `muster lab down` removes it") from error
    return Site(folder=folder, plan=plan, secrets=found, environment=environment)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=0o600)
    scratch.write_bytes(content)
    scratch.replace(path)
