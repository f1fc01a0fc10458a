"""How large a chaos run is."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sizes:
    servers: int = 2_000
    hosts: int = 500
    host_processes: int = 10
    workers: int = 4
    machines: int = 2  # with an image folder each
    lease_s: int = 10
    output: Path | None = None


def sizes() -> Sizes:
    """As the environment says: MUSTER_CHAOS_SERVERS and so on."""

    def number(name: str, default: int) -> int:
        return int(os.environ.get(f"MUSTER_CHAOS_{name}", default))

    output = os.environ.get("MUSTER_CHAOS_OUTPUT")
    return Sizes(
        servers=number("SERVERS", Sizes.servers),
        hosts=number("HOSTS", Sizes.hosts),
        host_processes=number("HOST_PROCESSES", Sizes.host_processes),
        workers=number("WORKERS", Sizes.workers),
        machines=number("MACHINES", Sizes.machines),
        output=Path(output) if output else None,
    )
