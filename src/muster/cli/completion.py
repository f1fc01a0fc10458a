"""`muster completion`: what a shell needs to complete `muster`'s commands and options by the Tab key."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete `muster` by the Tab key.

    \b
    For this session, or in the shell's start-up file for all:
      bash  eval "$(muster completion bash)"
      zsh   eval "$(muster completion zsh)"
      fish  muster completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows the shells of our own table
    click.echo(kind(context.find_root().command, {}, "muster", "_MUSTER_COMPLETE").source())
