"""Runnable benchmarks: each prints a table, writes JSON and measures its yardstick in the same run.

See docs/subsystems/benchmarks.md.
"""
