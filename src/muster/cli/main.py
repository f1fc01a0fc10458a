"""The `muster` command. Subcommands are loaded when they are called, so that `--help` is quick."""

import gc
import importlib
from types import ModuleType

import click
from click.shell_completion import CompletionItem

from muster import __version__

# Name, module and attribute of each subcommand, and what `muster --help` says of it.
_COMMANDS = {
    "up": ("muster.cli.up", "up", "Run a whole cloud on this machine, in the foreground."),
    "down": ("muster.cli.down", "down", "Stop a cloud and remove what runs or stands on this machine for it."),
    "serve": ("muster.cli.serve", "serve", "Run this machine's workers of a cluster's control plane."),
    "host": ("muster.cli.host", "host", "Run hosts of a cluster."),
    "restored": ("muster.cli.restored", "restored", "Say that a cluster's database was restored from a backup."),
    "kept": ("muster.cli.kept", "kept", "Show the guests that a host keeps since no database knows them."),
    "demo": ("muster.cli.demo", "demo", "Show a cloud at work: thousands of servers at once, and real ones."),
    "lab": ("muster.cli.lab", "lab", "A whole cluster on this machine, to try out and to break."),
    "top": ("muster.cli.top", "top", "Show live what a cluster does, and what it waits for most."),
    "doctor": ("muster.cli.doctor", "doctor", "Check a host: what makes many guests slow on it, or loses some."),
    "bench": ("muster.cli.bench", "bench", "Measure a cloud from its users' side."),
    "fit": ("muster.cli.fit", "fit", "Find how many guests of a kind a host holds: the right overcommit."),
    "soak": ("muster.cli.soak", "soak", "Play users against a cloud for hours, and count what fails."),
    "completion": ("muster.cli.completion", "completion", "Let the shell complete `muster` by the Tab key."),
    "guest": ("muster.cli.guest", "guest", "Build the test guest's image."),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(_imported(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - our own table
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands without importing any: a person waits for them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text) for name, (_, _, text) in _COMMANDS.items() if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, _, help_text) in _COMMANDS.items()])


def _imported(module: str) -> ModuleType:
    """The module. Nothing that a thousand modules make is garbage: looking for it is a sixth of their time."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="muster")
def main() -> None:
    """Muster creates thousands of virtual machines at once and loses none."""
