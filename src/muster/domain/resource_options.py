"""The `options` of identity's resources: names and types are fixed, null takes one away."""

from collections.abc import Mapping
from typing import Any

from muster.base.errors import Forbidden, Invalid

IMMUTABLE = "immutable"
RESOURCE_OPTIONS: Mapping[str, type] = {IMMUTABLE: bool}
USER_OPTIONS: Mapping[str, type] = {
    "ignore_change_password_upon_first_use": bool,
    "ignore_password_expiry": bool,
    "ignore_lockout_failure_attempts": bool,
    "ignore_user_inactivity": bool,
    "lock_password": bool,
    "multi_factor_auth_enabled": bool,
    "multi_factor_auth_rules": list,
}


def merge_options(
    old: Mapping[str, Any], changes: Mapping[str, Any], known: Mapping[str, type] = RESOURCE_OPTIONS
) -> dict[str, Any]:
    """The options after a change. Raises Invalid for one that does not exist or has a wrong type."""
    merged = dict(old)
    for name, value in changes.items():
        if name not in known:
            raise Invalid(f"The option {name!r} does not exist")
        if value is None:
            merged.pop(name, None)
        elif not isinstance(value, known[name]) or (name == "multi_factor_auth_rules" and not _are_rules(value)):
            raise Invalid(f"The option {name!r} has a value of a wrong type")
        else:
            merged[name] = value
    return merged


def require_mutable(what: str, options: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> None:
    """Raise Forbidden if a resource is immutable and stays so; `changes` are the options of this very request."""
    if options.get(IMMUTABLE) and (changes or {}).get(IMMUTABLE, True):
        raise Forbidden(f"Unable to change an immutable {what}. Set the immutable option to false or null first.")


def _are_rules(value: Any) -> bool:
    return all(isinstance(rule, list) and all(isinstance(method, str) for method in rule) for rule in value)
