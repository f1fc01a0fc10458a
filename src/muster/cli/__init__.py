"""The `muster` command and the wiring: the only place that reads the environment and builds the parts together."""
