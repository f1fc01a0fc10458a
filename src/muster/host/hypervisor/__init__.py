"""What runs guests: simulated ones in memory, or real ones through libvirt.

What belongs here: implementations of the `Hypervisor` protocol of `host.ports`. Nothing here decides what should run.
"""
