"""Real guests: QEMU through libvirt.

What belongs here: everything that knows libvirt or QEMU. Its modules import `libvirt`, which is an optional
dependency; so nothing is imported here: whoever wants real guests imports `hypervisor`, `libvirtd` or `accelerator`.
"""
