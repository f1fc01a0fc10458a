"""Frozen values, state tables and pure functions. No I/O, no clock, no randomness: `now` and `rng` are passed in."""
