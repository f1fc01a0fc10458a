"""How the engines of a cluster are configured and started: commands, files and environments, no processes.

The lab runs them in network namespaces, the tests on free ports of loopback; both say the same to the engines.
"""
