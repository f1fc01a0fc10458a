"""How much of it: numbers that the environment may say."""

import os

from muster.base.errors import Invalid


def number_from(variable: str, default: int) -> int:
    """The whole number of 1 or more in an environment variable, or the default. Raises Invalid for anything else."""
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise Invalid(f"{variable}={text!r} is no number of 1 or more")
    return int(text)
