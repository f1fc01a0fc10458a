"""Choosing kernel modules and describing them to modprobe."""

import lzma

import pytest

from muster.base.errors import NotFound
from muster.guest.modules import alias_table, closure, dependency_table, parse, select

from .elves import kernel_module

FILES = {
    "kernel/drivers/virtio/virtio.ko": kernel_module("virtio_ring"),
    "kernel/drivers/virtio/virtio_ring.ko": kernel_module(),
    "kernel/drivers/block/virtio_blk.ko": kernel_module("virtio,virtio_ring", "virtio:d00000002v*"),
    "kernel/drivers/char/virtio-rng.ko": kernel_module("virtio", "virtio:d00000004v*"),
    "kernel/fs/unrelated.ko": b"never read",
}


def test_selection_is_closed_and_dependencies_come_first() -> None:
    assert list(select(["virtio_blk"], FILES)) == ["virtio_ring", "virtio", "virtio_blk"]


def test_what_the_kernel_lacks_is_skipped_but_a_missing_dependency_is_not() -> None:
    assert select(["ahci"], FILES) == {}
    with pytest.raises(NotFound, match="virtio_blk needs virtio"):
        select(["virtio_blk"], {"kernel/virtio_blk.ko": kernel_module("virtio")})


def test_hyphens_in_file_names_mean_underscores() -> None:
    assert "virtio_rng" in select(["virtio_rng"], FILES)


def test_compressed_modules_are_stored_plain() -> None:
    plain = kernel_module("virtio")
    module = parse("kernel/a.ko.xz", lzma.compress(plain))
    assert (module.path, module.data, module.depends) == ("kernel/a.ko", plain, ("virtio",))


def test_tables_in_the_form_of_depmod() -> None:
    chosen = closure(["virtio_blk"], select(["virtio_blk"], FILES))
    assert dependency_table(chosen) == (
        "kernel/drivers/virtio/virtio_ring.ko:\n"
        "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n"
        "kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko\n"
    )
    assert alias_table(chosen) == "alias virtio:d00000002v* virtio_blk\n"
