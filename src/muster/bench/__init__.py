"""Benchmarks against any OpenStack cloud, through its public APIs alone.

What belongs here: the client's side of a measurement. Nothing of Muster's own control plane is imported, so that a
figure for Muster and a figure for another cloud are made by the same code.
"""
