"""Whatever users give as extra DHCP options, dnsmasq takes the configuration: it starts, and the network has DHCP."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muster.domain.specs import DhcpOption, PortSpec
from muster.host.network.dhcp_options import left_out, option_lines

pytestmark = pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not installed")

NAMES = ["router", "mtu", "tftp-server", "domain-search", "static-route", "classless-static-route", "time-offset", "T1"]
NAMES += ["sip-server", "sip-server-domain", "nis-domain", "information-refresh-time", "ipv6-only", "tzdb-timezone"]
NAMES += ["server-ip-address", "dns-server", "bootfile-url", "sntp-server", "vendor-class", "249"]
VALUES = ["", "1", "70000", "10.0.0.1", "10.0.0.1,10.0.0.2", "10.0.0.0/8,10.0.0.1", "aa:bb", "2001:db8::1", "a.b,c.d"]
VALUES += ["pxelinux.0", "a,b", "a # b", '"', "\\", "\n", "1h", "infinite", "0x10", "[::1]", "10.0.0.1/33", "a" * 256]
VALUES += ["http://10.0.0.1/wpad.dat", "/boot/10.0.0.1/24,10.0.0.1", "f/129", "a,10.0.0.1/33", "/", "fe80::1/200", " "]

names = st.sampled_from(NAMES) | st.integers(0, 300).map(str) | st.text(max_size=12)
values = st.sampled_from(VALUES) | st.text(st.characters(max_codepoint=255), max_size=40) | st.ip_addresses().map(str)
options = st.builds(DhcpOption, names, values, st.sampled_from([4, 6]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(options, max_size=60))
def test_dnsmasq_takes_them(tmp_path: Path, found: list[DhcpOption]) -> None:
    port = PortSpec(
        id="11111111-1111-4111-8111-111111111111",
        network_id="22222222-2222-4222-8222-222222222222",
        mac_address="fa:16:3e:00:00:01",
        dhcp_options=tuple(found),
    )
    lines = option_lines(port)
    kept = len(found) - len(left_out(port))
    assert len(lines) == (kept + 1 if kept else 0)
    assert all(line.isprintable() and line.startswith(("dhcp-mac=set:", "dhcp-option=tag:")) for line in lines)
    config = tmp_path / "conf"
    config.write_text("".join(f"{line}\n" for line in ("port=0", *lines)), encoding="ascii")
    tried = subprocess.run(
        ["dnsmasq", "--test", f"--conf-file={config}"], capture_output=True, text=True, timeout=300, check=False
    )
    assert tried.returncode == 0, tried.stderr
