"""The experiment's chart: how long each way takes by size, how slow its slowest ports are, tries, and load over time.

Drawn from the outcome alone, so also from its JSON: `python -m benchmarks.contention_chart FILE.json FILE.png`.
"""

import sys
from pathlib import Path

import msgspec
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.contention_ways import Way
from benchmarks.outcome import Grid, Outcome

# Okabe and Ito's colours, which people with any common colour blindness can tell apart.
COLOURS = {
    Way.RETRY_10_2019: "#cc79a7",
    Way.RETRY_20_2019: "#8b1a1a",
    Way.RETRY_10: "#e69f00",
    Way.RETRY_20: "#d55e00",
    Way.LOCK: "#56b4e9",
    Way.BATCH: "#999999",
    Way.BLOCKS: "#0072b2",
    Way.MUSTER: "#009e73",
    Way.MUSTER_AGAIN: "#004d38",
}
SAID = {
    Way.RETRY_10_2019: "10 retries, 0.1 s, window 30 (Rocky)",
    Way.RETRY_20_2019: "20 retries, 0.5-10 s, window 30 (tuned, 2019)",
    Way.RETRY_10: "10 retries, 0.1 s, window 1,000",
    Way.RETRY_20: "20 retries, 0.5-10 s, jitter, window 1,000 (today)",
    Way.LOCK: "one Tooz lock per port",
    Way.BATCH: "one lock per batch, lean",
    Way.BLOCKS: "leased blocks, lean",
    Way.MUSTER: "Muster",
    Way.MUSTER_AGAIN: "Muster, subnet in use",
}
_MADE, _WALL, _TRIES = 2, 3, 7  # columns of the grid
_SHOWN = 800  # the size whose load is drawn


def draw(outcome: Outcome, file: Path) -> None:
    """Write the chart as PNG. A second of CPU."""
    figure = Figure(figsize=(12, 8.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    plenty, exact = outcome.grids
    _lines(axes[0][0], plenty, _WALL, "seconds until the last port, 4 times as many addresses as requests")
    _lines(axes[0][1], exact, _WALL, "the same with exactly as many addresses as requests")
    _lines(axes[1][0], exact, _TRIES, "tries per port made, exactly as many addresses", "linear")
    _load(axes[1][1], outcome)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    where = f"{outcome.machine.cpus} processors for all, load before {outcome.machine.load_before:g}"
    figure.suptitle(
        f"Ports at once on one subnet by 10 workers, PostgreSQL and etcd ({where})",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    figure.savefig(file)


def _lines(axes: Axes, grid: Grid, column: int, title: str, scale: str = "log") -> None:
    for way in Way:
        rows = [row for row in grid.rows if row[0] == way and row[column] != "-"]
        if not rows:
            continue
        xs = [int(str(row[1]).replace(",", "")) for row in rows]
        ys = [_number(row[column]) for row in rows]
        wide = 2.6 if way is Way.MUSTER else 1.4
        axes.plot(xs, ys, color=COLOURS[way], lw=wide, marker="o", ms=4, label=SAID[way], zorder=3 if wide > 2 else 2)
        failed = [place for place, row in enumerate(rows) if _number(row[_MADE]) < 100]
        axes.plot(
            [xs[at] for at in failed], [ys[at] for at in failed], "x", color=COLOURS[way], ms=11, mew=2.2, zorder=4
        )
    axes.set(xscale="log", yscale=scale, xlabel="ports at once (x: not all were made)")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xticks(sorted({int(str(row[1]).replace(",", "")) for row in grid.rows}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _load(axes: Axes, outcome: Outcome) -> None:
    sizes = {int(one.name.split()[1]) for one in outcome.series}
    shown = _SHOWN if _SHOWN in sizes else max(sizes)
    for one in outcome.series:
        way, count, free = one.name.split(" ", 2)
        if int(count) == shown and free.startswith("exactly"):
            wide = 2.6 if way == Way.MUSTER else 1.2
            axes.plot(one.xs, one.ys, color=COLOURS[Way(way)], lw=wide, zorder=3 if wide > 2 else 2)
    axes.set(xlabel="seconds", ylim=(0, None), xlim=(0, None))
    axes.set_title(
        f"processors kept busy over time, {shown:,} ports, exactly as many addresses", loc="left", fontsize=10
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _number(cell: str | float) -> float:
    return float(cell.removeprefix("> ")) if isinstance(cell, str) else cell


if __name__ == "__main__":
    draw(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Outcome), Path(sys.argv[2]))
