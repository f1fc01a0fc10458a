"""What every layer may use: errors, ids, units, coalescer, admission, logs, metrics. Knows nothing of clouds."""
