"""The test guest: a small disk image of Debian packages, which boots and behaves as a cloud image does.

Nothing outside this package knows how the image is made, and nothing in the image knows Muster: it is a qcow2 disk with
a boot loader, a kernel and a config-drive/metadata client. Everything is built from unpacked packages in a cache
directory; nothing is installed, mounted or run as root on the machine that builds.
"""
