"""What commands load before they have looked at what they are asked."""

import subprocess
import sys

import pytest


def test_charts_are_loaded_by_who_draws_one() -> None:
    """matplotlib was half of the start of each of these."""
    look = "import sys, muster.cli.bench, muster.cli.demo, muster.cli.soak; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("command", ["up", "worker", "host"])
def test_what_draws_on_terminals_is_not_in_processes_that_serve(command: str) -> None:
    """structlog and Alembic import rich and pygments where they find them: 7 MiB that nobody uses."""
    look = f"""
import sys, muster.cli.{command}, muster.store.schema
muster.store.schema._alembic()
print({{"rich", "pygments"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "set()\n"
