"""The option that says how many real guests boot at a time."""

import click

from muster.base.errors import Invalid
from muster.host.boot_settings import check_boots


class Boots(click.ParamType[str]):
    """`auto`, `unlimited` or a number."""

    name = "boots"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value as it is, if it is one."""
        try:
            return check_boots(value)
        except Invalid as error:
            self.fail(error.message, param, ctx)


BOOTS = Boots()
