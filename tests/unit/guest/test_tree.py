"""Trees and the cpio archives made from them."""

import gzip

from muster.guest.tree import Kind, cpio, directory, file, initramfs, link, with_parents


def entries(archive: bytes) -> list[tuple[str, int, bytes]]:
    """(path, mode, content) as the kernel reads them: 110 bytes of header, name and content padded to four bytes."""
    found, at = [], 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, archive[start : start + size]))
        at = (start + size + 3) // 4 * 4


def test_archive_holds_each_node_with_parents_first() -> None:
    tree = {"lib/a/b.ko": file(b"abcde", 0o600), "init": file(b"#!", 0o755), "bin/sh": link("busybox")}
    assert entries(cpio(tree)) == [
        ("bin", 0o040755, b""),
        ("bin/sh", 0o120777, b"busybox"),
        ("init", 0o100755, b"#!"),
        ("lib", 0o040755, b""),
        ("lib/a", 0o040755, b""),
        ("lib/a/b.ko", 0o100600, b"abcde"),
    ]


def test_bytes_do_not_depend_on_the_order_of_insertion() -> None:
    one = {"a": file(b"1"), "b/c": file(b"2")}
    assert initramfs(one) == initramfs(dict(reversed(one.items())))
    assert gzip.decompress(initramfs(one)) == cpio(one)


def test_a_directory_that_is_named_keeps_its_mode_and_stands_before_its_siblings_names() -> None:
    # In plain text order "a-b" would come between "a" and "a/c".
    full = with_parents({"a/c": file(b""), "a-b": file(b""), "a": directory(0o700)})
    assert list(full) == ["a", "a/c", "a-b"]
    assert full["a"].kind is Kind.DIRECTORY
    assert full["a"].mode == 0o700
