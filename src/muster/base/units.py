"""Units of size, and time as text. Names carry their unit (`timeout_s`, `ram_mib`); these are the factors."""

from datetime import UTC, datetime

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def iso(moment_s: float) -> str:
    """Unix seconds as `2026-11-20T09:00:00Z`, the form of Nova and Neutron."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_plain(moment_s: float) -> str:
    """Unix seconds as `2026-11-20T09:00:00.000000`, in UTC: the form of Nova's columns, shown as they are."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000")


def iso_us(moment_s: float) -> str:
    """Unix seconds as `2026-11-20T09:00:00.000000Z`, the form of Keystone."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_iso(text: str) -> float:
    """Unix seconds of an ISO 8601 time; one without a zone is taken as UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
