"""How tables of figures look in a terminal: the same in every command."""

from rich import box
from rich.table import Table


def figures_table(first: str, *others: str, style: str = "bold") -> Table:
    """An empty table whose first column is names and whose others are figures, aligned to the right.

    Narrow enough for many columns in 80; long names are folded. `style` is the header's, as rich has it.
    """
    table = Table(header_style=style, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
