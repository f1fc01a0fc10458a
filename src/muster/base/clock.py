"""The clock as a value that is passed in, so that tests play time."""

import time
from collections.abc import Callable

# Unix seconds.
Clock = Callable[[], float]

system_clock: Clock = time.time
