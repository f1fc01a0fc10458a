"""A whole cluster on one machine, out of real parts in network namespaces: built, broken, mended and taken down.

It runs Muster by its own commands, as an operator would, and knows nothing of its code beyond base/. See
docs/subsystems/lab.md. `build.lab_running` is for tests and benchmarks, `cluster.Lab` is what can be done to a lab.
"""
