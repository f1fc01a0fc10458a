"""Records and results for the tests."""

from typing import Any

from muster.bench.figures import faults, figures
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Environment, Polling, Sample, ServerRecord, ServersResult
from muster.client.api import Traffic


def record(index: int, **moments: Any) -> ServerRecord:
    """A record whose keywords leave out the `_at_s`."""
    named = {f"{name}_at_s": value for name, value in moments.items()}
    return ServerRecord(index=index, name=f"bench-{index}", id=f"id-{index}", **named)


def result(records: list[ServerRecord], options: ServersOptions, **changes: Any) -> ServersResult:
    """A result of these records, with nothing else remarkable."""
    known: dict[str, Any] = {
        "options": options,
        "environment": Environment("cloud", "region", "http://c", "i", "f", "n", "2026-11-21T09:00:00Z", 2),
        "figures": figures(records, options),
        "faults": faults(records),
        "traffic": Traffic({"POST servers": len(records)}, {}, {}, 1, 1000),
        "polling": Polling(3, 0, 0.1, 0.2),
        "shared_addresses": [],
        "leftovers": [],
        "kept": [],
        "duration_s": 10.0,
        "client_cpu_s": 0.5,
        "samples": [Sample(0.2 * number, 50.0, 10.0) for number in range(1, 50)],
        "servers": records,
    }
    return ServersResult(**{**known, **changes})


UP_AND_DOWN = ServersOptions(count=4, phases=(Phase.CREATE, Phase.DELETE))
