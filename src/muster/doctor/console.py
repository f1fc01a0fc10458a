"""What people see: a row per finding, problems first."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster.doctor.findings import Finding, Level, Plan

_COLOURS = {Level.PROBLEM: "bold red", Level.ADVICE: "yellow", Level.NOT_KNOWN: "magenta", Level.GOOD: "green"}


def drawn(findings: list[Finding], plan: Plan, *, is_whole: bool) -> RenderableType:
    """The table, without what is good unless it `is_whole`, and a line that counts. Narrow enough for 80 columns."""
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    parts = [(f"{counts[level]} {level.value}", _COLOURS[level]) for level in Level]
    summary = Text(f"For {plan.guests} guests: ").append_text(Text(", ").join(Text(*part) for part in parts))
    if not is_whole and counts[Level.GOOD]:
        summary.append(" (--all shows what is good, too)")
    shown = [finding for finding in findings if is_whole or finding.level is not Level.GOOD]
    return Group(_table(shown), summary) if shown else summary


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, show_lines=True, expand=True, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for checks, finding in _together(findings):
        table.add_row(Text(finding.level.value, style=_COLOURS[finding.level]), _told(checks, finding))
    return table


def _together(findings: list[Finding]) -> list[tuple[str, Finding]]:
    """Checks that could not be made for one and the same reason are one row, with all of their ids."""
    rows: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        is_alike = finding.level is Level.NOT_KNOWN
        rows.setdefault((finding.found, finding.mend) if is_alike else (str(len(rows)),), []).append(finding)
    return [(", ".join(finding.check for finding in alike), alike[0]) for alike in rows.values()]


def _told(checks: str, finding: Finding) -> Text:
    text = Text.assemble((checks, "bold"), f"  {finding.found}")
    is_wrong = finding.level in (Level.PROBLEM, Level.ADVICE)
    for name, value in (
        ("costs", is_wrong and finding.cost),
        ("mend", finding.mend),
        ("source", is_wrong and finding.source),
    ):
        if value:
            text.append(f"\n{name}: ", style="dim").append(value, style="dim" if name == "source" else "")
    return text
