"""What commands load before they have looked at what they are asked."""

import subprocess
import sys


def test_charts_are_loaded_by_who_draws_one() -> None:
    """matplotlib was half of the start of each of these."""
    look = "import sys, muster.cli.bench, muster.cli.demo, muster.cli.soak; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "False\n"
