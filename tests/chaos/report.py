"""What came of each scenario, as a table for people."""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.chaos.sizes import Sizes


@dataclass
class Row:
    """One scenario: what was answered, when, and what was found wrong afterwards. Times in seconds."""

    name: str
    accepted: int = 0
    refused: int = 0
    broken: int = 0
    made_of_broken: int = 0
    struck_at: str = ""
    answered_s: float = 0.0
    active_s: float = 0.0
    deleted_s: float = 0.0
    load: float = 0.0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    done: bool = False


_HEADINGS = ("in the middle", "202", "refused", "broken (made)", "struck when", "answered", "all ACTIVE", "all deleted")
_HEAD = f"| {' | '.join((*_HEADINGS, 'load', 'wrong'))} |"


class Report:
    """Rows as they come; `write` makes the page."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.rows: list[Row] = []
        self._began = time.monotonic()

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def lines(self) -> list[str]:
        found = [_HEAD, "|---" * 10 + "|"]
        for row in self.rows:
            wrong = "nothing" if row.done and not row.wrong else "**" + "; ".join(row.wrong[:3] or ["not ended"]) + "**"
            name = f"{row.name} ({', '.join(row.notes)})" if row.notes else row.name
            found.append(
                f"| {name} | {row.accepted} | {row.refused} | {row.broken} ({row.made_of_broken}) | {row.struck_at} "
                f"| {row.answered_s:.0f} s | {row.active_s:.0f} s | {row.deleted_s:.0f} s | {row.load:.0f} | {wrong} |"
            )
        return found

    def ended(self) -> None:
        """The last row has come to its end, or a test has failed: what there is is kept, whatever comes after."""
        if self.sizes.output is not None:
            self.sizes.output.write_text(self.page())

    def page(self) -> str:
        """All of it, in Markdown."""
        size = self.sizes
        page = [
            "# Chaos, the last run",
            "",
            f"`make chaos`, {datetime.now(UTC):%Y-%m-%d}: {size.servers:,} single creations at once, each asked for "
            f"once, on {size.hosts} simulated hosts in {size.host_processes} processes, {size.workers} workers on "
            f"{min(size.machines, size.workers)} machines with image folders of their own, PostgreSQL, three etcd "
            f"(leases of {size.lease_s} s), RabbitMQ, client: all on one machine with {os.cpu_count()} processors. "
            "The failure strikes when a tenth has been accepted, a lock's holder from the first request on.",
            "",
            *self.lines(),
            "",
            "- *202*: accepted; each of these was ACTIVE in the end, without a person. *refused*: answered 503 (come",
            "  again later), nothing done. *broken*: the connection ended without an answer; so many of them were made",
            "  all the same, whole.",
            "- *struck when*: accepted / ACTIVE in the database when the failure began, / accepted when it was over.",
            "- *answered*, *all ACTIVE*: seconds after the first request. *load*: the machine's at the end; others may",
            "  have used it too, so times are for comparison with the first row only.",
            "- *wrong*: what the checker (`tests/chaos/judge.py`, `tests/audit`) found in database, API, hosts, etcd.",
            f"- The whole run took {(time.monotonic() - self._began) / 60:.0f} minutes.",
        ]
        return "\n".join(page) + "\n"
