"""Which libraries go into the image, and that the guest's own files are all placed."""

from importlib import resources

import pytest

from muster.base.errors import NotFound
from muster.guest.modules import select
from muster.guest.payload import Payload, initramfs_tree, libraries_for, root_tree
from muster.guest.tree import file, link

from .elves import kernel_module, program

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBRARIES = {
    "lib/x86_64-linux-gnu/libc.so.6": file(program("ld-linux-x86-64.so.2")),
    "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": file(program()),
    "lib64/ld-linux-x86-64.so.2": link("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    "usr/lib/x86_64-linux-gnu/libt.so.1": link("libt.so.1.2"),
    "usr/lib/x86_64-linux-gnu/libt.so.1.2": file(program("libc.so.6")),
    "usr/lib/x86_64-linux-gnu/libunused.so.3": file(program()),
}


def test_libraries_are_followed_through_links_and_unused_ones_left_out() -> None:
    chosen = libraries_for({"sbin/d": file(program("libt.so.1", loader=LOADER))}, LIBRARIES)
    base = "lib/x86_64-linux-gnu"
    assert set(chosen) == {f"{base}/libt.so.1", f"{base}/libc.so.6", f"{base}/ld-linux-x86-64.so.2", LOADER[1:]}
    assert chosen[f"{base}/libt.so.1"].data == LIBRARIES["usr/lib/x86_64-linux-gnu/libt.so.1.2"].data


def test_a_library_that_nobody_brought_is_named() -> None:
    with pytest.raises(NotFound, match=r"libmissing\.so\.9"):
        libraries_for({"sbin/d": file(program("libmissing.so.9"))}, LIBRARIES)


@pytest.fixture
def payload() -> Payload:
    modules = {"kernel/virtio_blk.ko": kernel_module(), "kernel/virtio_net.ko": kernel_module()}
    return Payload(
        kernel_version="6.1.0",
        kernel=b"kernel",
        modules=select(["virtio_blk", "virtio_net"], modules),
        busybox=b"busybox",
        dropbear={"usr/sbin/dropbear": file(program("libc.so.6", loader=LOADER), 0o755)},
        grub={},
        libraries=LIBRARIES,
    )


def test_root_has_programs_scripts_and_no_password(payload: Payload) -> None:
    tree = root_tree(payload, ["sh", "init", "busybox"])
    assert tree["sbin/init"] == tree["bin/sh"] == link("/bin/busybox")
    assert tree["etc/passwd"].data.startswith(b"root:*:")
    assert tree["root"].mode == 0o700
    assert "usr/sbin/dropbear" in tree
    assert "lib/x86_64-linux-gnu/libc.so.6" in tree


def test_every_file_that_comes_along_is_used(payload: Payload) -> None:
    placed = {node.data for tree in (root_tree(payload, []), initramfs_tree(payload)) for node in tree.values()}
    files = resources.files("muster.guest").joinpath("files")
    unused = {entry.name for entry in files.iterdir() if entry.read_bytes() not in placed}
    assert unused == {"grub.cfg"}


def test_initramfs_holds_disk_drivers_only(payload: Payload) -> None:
    tree = initramfs_tree(payload)
    assert "lib/modules/6.1.0/kernel/virtio_blk.ko" in tree
    assert "lib/modules/6.1.0/kernel/virtio_net.ko" not in tree
    assert tree["init"].mode == 0o755
