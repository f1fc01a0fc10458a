"""The chart of a soak: over time, how many operations went well and failed, how many servers there were, how long the
operations took, and when the cloud was away.

Colours are from Okabe and Ito's palette, which people with any common colour blindness can tell apart.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from muster.base.chart_files import check_suffix
from muster.base.errors import Invalid
from muster.soak.report import Report

MOST_LINES = 7
_OK, _FAILED, _SERVERS = "#009e73", "#d55e00", "#000000"
_LINES = ("#0072b2", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#009e73", "#000000")


def draw(said: Report, file: Path) -> None:
    """Write the chart; the suffix says as what. Raises Invalid for another suffix or no place to write.

    Cost: a second of CPU.
    """
    check_suffix(file)
    figure = Figure(figsize=(11, 7), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _operations(upper, said)
    _durations(lower, said)
    for axes in (upper, lower):
        _outages(axes, said)
    figure.suptitle(
        f"{said.environment.cloud}: {said.scenario.users} users, {said.ok_operations + said.failed_operations:,} "
        f"operations, {said.failed_percent:.3g} % failed",
        x=0.01,
        ha="left",
        fontsize=14,
        fontweight="bold",
    )
    try:
        figure.savefig(file)
    except OSError as error:
        raise Invalid(f"the chart cannot be written to {file}: {error}") from error


def _operations(axes: Axes, said: Report) -> None:
    per_min = 60.0 / said.point_s
    at = [_unit(said) * point.at_s for point in said.course]
    width = _unit(said) * said.point_s
    ok = [per_min * point.ok for point in said.course]
    failed = [per_min * point.failed for point in said.course]
    axes.bar(at, ok, width, align="edge", color=_OK, label="went well")
    axes.bar(at, failed, width, ok, align="edge", color=_FAILED, hatch="xxx", edgecolor="#ffffff", label="failed")
    axes.set(ylabel="operations per minute")
    servers = axes.twinx()
    most = [point.most_servers for point in said.course]
    servers.step(at, most, where="post", color=_SERVERS, lw=1.3, label="servers (right)")
    servers.set(ylabel="servers", ylim=(0, max([*most, 1]) * 1.15))
    servers.yaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes.get_legend_handles_labels()
    more, more_labels = servers.get_legend_handles_labels()
    axes.legend([*handles, *more], [*labels, *more_labels], loc="upper left", ncols=3, fontsize=8.5, frameon=False)
    axes.set_ylim(0, max([a + b for a, b in zip(ok, failed, strict=True)] + [1.0]) * 1.2)


def _durations(axes: Axes, said: Report) -> None:
    """The operations that take longest, by their medians."""
    slowest = sorted(said.operations, key=lambda one: -(one.p50_s or 0))[:MOST_LINES]
    for figure, colour in zip(slowest, _LINES, strict=False):
        points = [point for point in said.course if figure.name in point.p50_s]
        at = [_unit(said) * (point.at_s + said.point_s / 2) for point in points]
        axes.plot(at, [point.p50_s[figure.name] for point in points], color=colour, lw=1.4, label=figure.name)
        axes.plot(at, [point.p90_s[figure.name] for point in points], color=colour, lw=0.7, ls=(0, (4, 2)))
    axes.set(yscale="log", ylabel="seconds: p50, dashed p90", xlabel=_unit_name(said))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", alpha=0.3)
    if slowest:
        axes.legend(loc="upper left", ncols=MOST_LINES, fontsize=8.5, frameon=False)


def _outages(axes: Axes, said: Report) -> None:
    for outage in said.newest_outages:
        axes.axvspan(
            _unit(said) * outage.at_s, _unit(said) * (outage.at_s + outage.lasted_s), color="#888888", alpha=0.3, lw=0
        )
    for at_s in said.interruptions_at_s:
        axes.axvline(_unit(said) * at_s, color="#444444", ls=":", lw=1.2)


def _unit(said: Report) -> float:
    return 1 / 3600 if said.active_s > 7200 else 1 / 60


def _unit_name(said: Report) -> str:
    return ("hours" if said.active_s > 7200 else "minutes") + " of the soak; grey: cloud away; dotted: interrupted"
