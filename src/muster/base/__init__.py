"""What every layer may use: errors, ids, units, the coalescer, admission, logging and metrics. Knows nothing of clouds."""
