"""What a value in a body must be. Each validator takes the JSON value and gives the domain's; ValueError says why not.

The words are Neutron's, which clients show to their users.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from muster.base.ids import is_uuid
from muster.domain.ports import WantedIp
from muster.domain.specs import AddressPair, HostRoute
from muster.domain.subnets import Pool

Validator = Callable[[Any], Any]

NAME_LIMIT = 255
MAX_INT32 = 2**31 - 1
MAX_FIXED_IPS = 256
MAX_ADDRESS_PAIRS = 10
TAG_LIMIT = 255
MAX_TAGS = 50

_MAC = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


def text(limit: int = NAME_LIMIT) -> Validator:
    """Text of at most `limit` characters."""

    def validate(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"'{_shown(value)}' is not a valid string")
        if len(value) > limit:
            raise ValueError(f"'{_shown(value)}' exceeds maximum length of {limit}")
        if "\x00" in value:
            raise ValueError("a string must not contain the character U+0000")
        return value

    return validate


def boolean(value: Any) -> bool:
    """A truth value, also as 0, 1 and the words for them, as Neutron takes it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false", "0", "1"):
        return value.lower() in ("true", "1")
    raise ValueError(f"'{_shown(value)}' cannot be converted to boolean")


def integer(low: int, high: int = MAX_INT32) -> Validator:
    """A whole number from `low` to `high`, also as text."""

    def validate(value: Any) -> int:
        number = to_integer(value)
        if number < low:
            raise ValueError(f"'{number}' is too small - must be at least '{low}'")
        if number > high:
            raise ValueError(f"'{number}' is too large - must be no larger than '{high}'")
        return number

    return validate


def to_integer(value: Any) -> int:
    """A whole number, also as text of at most 20 digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value):
        return int(value)
    raise ValueError(f"'{_shown(value)}' is not an integer")


def or_none(validator: Validator) -> Validator:
    """What `validator` takes, or null."""
    return lambda value: None if value is None else validator(value)


def or_empty(validator: Validator) -> Validator:
    """What `validator` takes, where null means the empty text."""
    return lambda value: "" if value is None else validator(value)


def one_of(*values: Any) -> Validator:
    """One of these values."""

    def validate(value: Any) -> Any:
        if not isinstance(value, type(values[0])) or value not in values:
            raise ValueError(f"'{_shown(value)}' is not in {list(values)}")
        return value

    return validate


def uuid(value: Any) -> str:
    """A UUID."""
    if not isinstance(value, str) or not is_uuid(value):
        raise ValueError(f"'{_shown(value)}' is not a valid UUID")
    return value


def address(value: Any) -> str:
    """An IP address, in its canonical form."""
    try:
        found = ip_address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ValueError(f"'{_shown(value)}' is not a valid IP address") from error
    if "%" in str(found):
        raise ValueError(f"'{_shown(value)}' is not a valid IP address")
    return str(found)


def cidr(value: Any) -> str:
    """A network in CIDR notation; bits of the host are cut off."""
    try:
        if not isinstance(value, str) or "/" not in value or "%" in value:
            raise ValueError
        return str(ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError(f"'{_shown(value)}' is not a valid IP subnet") from error


def address_or_cidr(value: Any) -> str:
    """An IP address or a network."""
    return cidr(value) if isinstance(value, str) and "/" in value else address(value)


def prefix(value: Any) -> str:
    """A rule's remote prefix: a network as it was written, or an address, which is a network of one."""
    if isinstance(value, str) and "/" in value:
        cidr(value)
        return value
    found = address(value)
    return f"{found}/{128 if ':' in found else 32}"


def mac(value: Any) -> str:
    """A MAC address of one card, in lower case with colons."""
    found = value.lower() if isinstance(value, str) else ""
    if not _MAC.fullmatch(found):
        raise ValueError(f"'{_shown(value)}' is not a valid MAC address")
    found = found.replace("-", ":")
    if found == "00:00:00:00:00:00" or int(found[:2], 16) & 1:
        raise ValueError(f"'{_shown(value)}' is not a valid MAC address")
    return found


def list_of(validator: Validator, limit: int, *, unique: bool = True) -> Validator:
    """A list of at most `limit` items, null for none; `unique` refuses doubles."""

    def validate(value: Any) -> tuple[Any, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            raise ValueError(f"'{_shown(value)}' is not a list")
        if len(value) > limit:
            raise ValueError(f"the list has more than {limit} items")
        items = tuple(validator(item) for item in value)
        if unique and any(item in items[:index] for index, item in enumerate(items)):
            raise ValueError(f"Duplicate items in the list: '{_shown(value)}'")
        return items

    return validate


def dns_name(value: Any) -> str:
    """A host name, or the empty text."""
    name: str = text(NAME_LIMIT)(value)
    if name and not all(_DNS_LABEL.fullmatch(label) for label in name.rstrip(".").split(".")):
        raise ValueError(f"'{_shown(value)}' not a valid PQDN or FQDN. Reason: Name must match the rules of DNS labels")
    return name


def pool(value: Any) -> Pool:
    """An allocation pool."""
    found = _only(value, "start", "end")
    if len(found) != 2:
        raise ValueError(f"Invalid data format for IP pool: '{_shown(value)}'")
    return Pool(address(found["start"]), address(found["end"]))


def host_route(value: Any) -> HostRoute:
    """A route for guests."""
    found = _only(value, "destination", "nexthop")
    if len(found) != 2:
        raise ValueError(f"Invalid data format for hostroute: '{_shown(value)}'")
    return HostRoute(cidr(found["destination"]), address(found["nexthop"]))


def fixed_ip(value: Any) -> WantedIp:
    """An address that a port asks for."""
    found = _only(value, "subnet_id", "ip_address")
    subnet_id, ip = found.get("subnet_id"), found.get("ip_address")
    return WantedIp(
        subnet_id=None if subnet_id is None else uuid(subnet_id), ip_address=None if ip is None else address(ip)
    )


def address_pair(value: Any) -> AddressPair:
    """An allowed address pair; no MAC address stands for the port's own."""
    found = _only(value, "ip_address", "mac_address")
    if found.get("ip_address") is None:
        raise ValueError("AllowedAddressPair must contain ip_address")
    mac_address = found.get("mac_address")
    return AddressPair(address_or_cidr(found["ip_address"]), "" if mac_address is None else mac(mac_address))


#: Extra DHCP options that take away what the subnet says, as in Neutron.
_MAY_BE_BLANK = ("router", "classless-static-route")


def dhcp_option(value: Any) -> dict[str, str]:
    """An extra DHCP option, with its IP version as text."""
    found = _only(value, "opt_name", "opt_value", "ip_version")
    version = found.get("ip_version", 4)
    if str(version) not in ("4", "6"):
        raise ValueError(f"'{_shown(version)}' is not in [4, 6]")
    name = text(64)(found.get("opt_name"))
    if not name.strip():
        raise ValueError("'opt_name' must not be blank")
    option = {"opt_name": name, "ip_version": str(version)}
    if found.get("opt_value") is not None:
        option["opt_value"] = text()(found["opt_value"])
        if not option["opt_value"].strip() and name not in _MAY_BE_BLANK:
            raise ValueError(f"'{_shown(found['opt_value'])}' Blank strings are not permitted")
    return option


def document(limit: int = 4095) -> Validator:
    """A JSON object whose text takes at most `limit` characters, null for an empty one."""

    def validate(value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError(f"'{_shown(value)}' is not a dictionary")
        if len(repr(value)) > limit or "\\x00" in repr(value):
            raise ValueError(f"the dictionary is larger than {limit} characters or has characters that are not text")
        _check_depth(value, 8)
        return value

    return validate


def tag(value: Any) -> str:
    """A tag."""
    name: str = text(TAG_LIMIT)(value)
    if not name.strip():
        raise ValueError("a tag must not be blank")
    return name


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise ValueError("the dictionary is nested too deeply")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("a number is beyond 64 bits")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(item, left - 1)


def _only(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"'{_shown(value)}' is not a dictionary")
    if unknown := sorted(set(value) - set(names)):
        raise ValueError(f"Unexpected keys supplied: {', '.join(map(_shown, unknown))}")
    return value


def _shown(value: Any) -> str:
    """A value as an error message shows it: not all of a huge one."""
    shown = value if isinstance(value, str) else repr(value)
    return (shown if len(shown) <= 80 else shown[:77] + "...").replace("\x00", "")
