"""The chart of a run: over time, the share of servers in each state as stacked areas, with CPU and disk use as lines.

The form is that of the 2013 report on 40 servers at once (see `docs/subsystems/bench.md`). Colours are from Okabe and
Ito's palette, which people with any common colour blindness can tell apart; neighbours differ in lightness.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from muster.base.chart_files import check_suffix
from muster.base.errors import Invalid
from muster.bench.options import Phase
from muster.bench.records import Sample, ServersResult
from muster.bench.shares import Shares, State, shares

COLOURS = {
    State.FAILED: "#d55e00",
    State.GONE: "#e4e4e4",
    State.DELETING: "#cc79a7",
    State.READY: "#009e73",
    State.SSH: "#7cc8ee",
    State.PING: "#0072b2",
    State.BUILDING: "#e69f00",
    State.REQUESTED: "#f5eda0",
    State.WAITING: "#ffffff",
}
HATCHES = {State.FAILED: "xxx"}
# So much of the time axis lies behind the last moment, so that the end can be seen.
MARGIN = 0.02
MOST_SAMPLES = 100
CPU_COLOUR, DISK_COLOUR = "#000000", "#8b1a1a"


def draw(result: ServersResult, file: Path) -> None:
    """Write the chart; the suffix (.png, .svg, .pdf) says as what.

    Raises Invalid for another suffix or no place to write. Cost: a second of CPU, so not while something is measured.
    """
    check_suffix(file)
    figure = Figure(figsize=(11, 6.2), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    data = shares(result.servers, result.options, result.duration_s * (1 + MARGIN))
    _areas(axes, data, result.options.count)
    use = axes.twinx()
    _lines(use, result)
    _legends(figure, axes, use)
    figure.suptitle(_headline(result), x=0.01, ha="left", fontsize=14, fontweight="bold")
    figure.text(0.99, 0.99, _corner(result), ha="right", va="top", fontsize=8.5, color="#444444")
    axes.set_title(_subline(result), loc="left", fontsize=8.5, color="#444444")
    try:
        figure.savefig(file)
    except OSError as error:
        raise Invalid(f"the chart cannot be written to {file}: {error}") from error


def _areas(axes: Axes, data: Shares, servers: int) -> None:
    present = [state for state in State if any(data.counts[state])]
    percent = [[100 * count / servers for count in data.counts[state]] for state in present]
    areas = axes.stackplot(data.times_s, percent, step="post", colors=[COLOURS[state] for state in present], lw=0)
    for state, area in zip(present, areas, strict=True):
        area.set(edgecolor="#ffffff", hatch=HATCHES.get(state))
        area.set_label(state.value if state is not State.WAITING else "")
    axes.set(xlim=(0, data.times_s[-1]), ylim=(0, 100), xlabel="seconds since the first request", ylabel="servers")
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(12))
    axes.grid(axis="y", color="#ffffff", alpha=0.35, lw=0.8)
    axes.spines[["top"]].set_visible(False)


def _lines(axes: Axes, result: ServersResult) -> None:
    samples = averaged(result.samples)
    times_s = [sample.at_s for sample in samples]
    halo = [withStroke(linewidth=3.2, foreground="#ffffff")]
    for label, colour, dashes, values in (
        (
            f"CPU ({result.environment.client_cpus} cores)",
            CPU_COLOUR,
            "-",
            [sample.cpu_percent for sample in samples],
        ),
        ("disk busy", DISK_COLOUR, (0, (4, 2)), [sample.disk_percent for sample in samples]),
    ):
        axes.plot(times_s, values, color=colour, ls=dashes, label=label, lw=1.6, path_effects=halo, clip_on=False)
    axes.set(ylim=(0, 100), ylabel="CPU and disk use of the client's machine")
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.spines[["top"]].set_visible(False)


def averaged(samples: Sequence[Sample]) -> list[Sample]:
    """At most `MOST_SAMPLES`, each the mean of equally many: of a long run the course is of interest, not the noise."""
    size = -(-len(samples) // MOST_SAMPLES) or 1
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [
        Sample(mean(s.at_s for s in part), mean(s.cpu_percent for s in part), mean(s.disk_percent for s in part))
        for part in parts
    ]


def _legends(figure: Figure, axes: Axes, use: Axes) -> None:
    """The states from top to bottom as they are stacked, then the lines; below the chart, where nothing is covered."""
    handles, labels = axes.get_legend_handles_labels()
    line_handles, line_labels = use.get_legend_handles_labels()
    figure.legend(
        [*reversed(handles), *line_handles],
        [*reversed(labels), *line_labels],
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=9,
    )


def _headline(result: ServersResult) -> str:
    last = result.figures[-2 if result.options.wants(Phase.DELETE) else -1]  # the last one before the deletion
    share = f"{100 * last.ok / last.total:.4g} %"
    what = "ACTIVE" if last.name == "create" else "ready"
    slowest = f", the last after {last.spread.max_s:.1f} s" if last.spread else ""
    return f"{result.environment.cloud}: {result.options.crowd}, {share} {what}{slowest}"


def _subline(result: ServersResult) -> str:
    spreads = [
        f"{figure.name} {figure.spread.p50_s:.2f}/{figure.spread.p99_s:.2f}"
        for figure in result.figures
        if figure.spread
    ]
    return "seconds, p50/p99: " + ", ".join(spreads)


def _corner(result: ServersResult) -> str:
    errors, retries = sum(result.traffic.errors.values()), sum(result.traffic.retries.values())
    return f"{errors} errors, {retries} retries\n{result.environment.started_at}"
