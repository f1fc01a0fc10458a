"""Nothing that has a meaning in nft's language, in dnsmasq's files or in a path gets past the checks."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.base.errors import Invalid
from muster.host.network import checks

LABEL = set(string.ascii_lowercase + string.digits + "-")


@given(st.text())
def test_any_hostname_becomes_a_dns_label(text: str) -> None:
    label = checks.label_of(text, "fallback")
    assert 1 <= len(label) <= 63
    assert set(label) <= LABEL
    assert not label.startswith("-")
    assert not label.endswith("-")


@given(st.text())
def test_any_text_is_a_domain_or_invalid(text: str) -> None:
    try:
        domain = checks.domain_of(text)
    except Invalid:
        return
    assert set(domain) <= LABEL | {"."}


@given(st.text())
def test_any_text_is_an_address_or_invalid(text: str) -> None:
    try:
        address = checks.address_of(text)
    except Invalid:
        return
    assert set(address) <= set(string.hexdigits + ".:")


@pytest.mark.parametrize(
    "text",
    ["", "fa:16:3e:00:00", "01:00:5e:00:00:01", "00:00:00:00:00:00", 'fa:16:3e:00:00:01"', "fa:16:3e:00:00:01\n"],
)
def test_bad_macs(text: str) -> None:
    with pytest.raises(Invalid):
        checks.mac_of(text)


def test_good_macs() -> None:
    assert checks.mac_of("FA-16-3E-00-00-01") == "fa:16:3e:00:00:01"


@pytest.mark.parametrize("text", ["10.0.0.1/33", "fe80::1%eth0", "10.0.0.1 ", "1.2.3", "::1/64; drop"])
def test_bad_interfaces(text: str) -> None:
    with pytest.raises(Invalid):
        checks.interface_of(text)


@pytest.mark.parametrize("text", ["", "../../etc", "1" * 31, "g" * 32])
def test_bad_uuids(text: str) -> None:
    with pytest.raises(Invalid):
        checks.uuid_of(text)


def test_uuids_are_made_canonical() -> None:
    assert checks.uuid_of("AAAAAAAABBBB4CCC8DDDEEEEEEEEEEEE") == "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"


def test_link_local_by_rfc_4291() -> None:
    assert checks.link_local_of("34:56:78:9a:bc:de") == "fe80::3656:78ff:fe9a:bcde"
