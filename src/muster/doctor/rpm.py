"""RPM's database as far as versions go, without RPM: a table of package headers in SQLite (RPM 4.16 and later).

Source: RPM's own description, https://rpm-software-management.github.io/rpm/manual/format_header.html
Pure; no bytes make it raise.
"""

import struct

from muster.doctor.texts import Version, part_of_rpm, version

#: Where the database is: the usual place, and the one of distributions that keep /usr whole.
DATABASES = ("/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite")
#: The headers of the packages that may matter, by the database's own index of names.
QUERY = (
    "SELECT blob FROM Packages WHERE hnum IN (SELECT hnum FROM Name WHERE"
    " key LIKE 'qemu-%' OR key = 'libvirt-daemon' OR key LIKE 'openvswitch%' OR key = 'dnsmasq')"
)
_NAME, _VERSION, _STRING = 1000, 1001, 6
_MOST_TAGS = 10_000


def rpm_versions(headers: list[bytes]) -> dict[str, Version]:
    """The parts of a host by the headers of its packages."""
    found: dict[str, Version] = {}
    for header in headers:
        told = strings(header)
        part = part_of_rpm(told.get(_NAME, ""))
        if part is not None and version(told.get(_VERSION, "")):
            found[part] = version(told[_VERSION])
    return found


def strings(header: bytes) -> dict[int, str]:
    """The tags of a header that are one string: two numbers, an index of (tag, type, offset, count), the data."""
    if len(header) < 8:
        return {}
    tags, _ = struct.unpack_from(">II", header)
    data = 8 + 16 * tags
    if tags > _MOST_TAGS or data > len(header):
        return {}
    found = {}
    for place in range(8, data, 16):
        tag, kind, offset, _ = struct.unpack_from(">IIII", header, place)
        if kind == _STRING and data + offset < len(header):
            found[tag] = header[data + offset :].partition(b"\0")[0].decode(errors="replace")
    return found
