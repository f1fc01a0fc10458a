"""Muster: a cloud control plane that creates thousands of virtual machines at once and loses none."""

__version__ = "0.1.0"
