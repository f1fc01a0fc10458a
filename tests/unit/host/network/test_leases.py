"""Leases out of dnsmasq's log."""

import asyncio
import os

import pytest

from muster.host.network.leases import LeaseWatch, parse_line


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (
            b"Nov 20 20:11:03 dnsmasq-dhcp[7]: DHCPACK(brq1) 10.0.0.5 fa:16:3e:00:00:01 web",
            ("10.0.0.5", "fa:16:3e:00:00:01"),
        ),
        (
            b"Nov 20 20:11:03 dnsmasq-dhcp[7]: DHCPACK(brq1) 10.0.0.5 fa:16:3e:00:00:01 ",
            ("10.0.0.5", "fa:16:3e:00:00:01"),
        ),
        (b"dnsmasq-dhcp[7]: DHCPREPLY(brq1) 2001:db8::5 00:03:00:01:fa:16:3e:00:00:01 web", ("2001:db8::5", None)),
        (b"dnsmasq-dhcp[7]: DHCPOFFER(brq1) 10.0.0.5 fa:16:3e:00:00:01", None),
        (b"dnsmasq-dhcp[7]: DHCPNAK(brq1) 10.0.0.5 fa:16:3e:00:00:01 wrong address", None),
        (b"\xff\xfe", None),
    ],
)
def test_lines(line: bytes, seen: tuple[str, str | None] | None) -> None:
    assert parse_line(line) == seen


async def test_lines_may_come_in_pieces_and_closing_ends_the_stream() -> None:
    watch = LeaseWatch(lambda network, address: ("port", "fa:16:3e:00:00:01"))
    reader, writer = os.pipe2(os.O_NONBLOCK)
    watch.open("net", reader)
    os.write(writer, b"x\ndnsmasq-dhcp[7]: DHCPACK(brq1) 10.0")
    await asyncio.sleep(0)
    stream = watch.leases()
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    os.write(writer, b".0.5 fa:16:3e:00:00:01 a\n")
    seen = await asyncio.wait_for(waiting, 300)
    assert (seen.network_id, seen.port_id, seen.ip_address) == ("net", "port", "10.0.0.5")
    watch.close()
    assert [lease async for lease in stream] == []
    os.close(writer)


async def test_a_log_that_comes_after_closing_is_closed_too() -> None:
    watch = LeaseWatch(lambda network, address: None)
    watch.close()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    watch.open("net", reader)
    with pytest.raises(OSError):
        os.fstat(reader)
    os.close(writer)


async def test_a_lease_of_a_port_that_has_gone_has_no_port() -> None:
    watch = LeaseWatch(lambda network, address: None)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    watch.open("net", reader)
    os.write(writer, b"dnsmasq-dhcp[7]: DHCPREPLY(brq1) 2001:db8::5 00:03 a\n")
    seen = await asyncio.wait_for(anext(watch.leases()), 300)
    assert (seen.port_id, seen.mac_address) == (None, "")
    watch.close()
    os.close(writer)
