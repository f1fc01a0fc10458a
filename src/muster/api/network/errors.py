"""Errors in Neutron's body: `{"NeutronError": {"type", "message", "detail"}}`."""

from http import HTTPStatus
from typing import Any

from muster.base.errors import (
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    MusterError,
    NotFound,
    Stale,
    TooLarge,
    Transient,
    Unauthenticated,
    Unsupported,
)
from muster.domain.network_errors import CODE_PREFIX

_TYPES: dict[type[MusterError], str] = {
    Invalid: "HTTPBadRequest",
    Forbidden: "PolicyNotAuthorized",
    NotFound: "HTTPNotFound",
    Conflict: "HTTPConflict",
    Exhausted: "OverQuota",
    TooLarge: "HTTPRequestEntityTooLarge",
    Unsupported: "HTTPUnsupportedMediaType",
    Transient: "HTTPServiceUnavailable",
    Stale: "HTTPServiceUnavailable",
}


def error_body(error: MusterError, status: HTTPStatus) -> Any:
    """The JSON of an error. A missing or bad token is answered in the words of Keystone's middleware."""
    if isinstance(error, Unauthenticated):
        return {"error": {"code": int(status), "title": status.phrase, "message": error.message}}
    return {"NeutronError": {"type": _type(error, status), "message": _message(error, status), "detail": ""}}


def _type(error: MusterError, status: HTTPStatus) -> str:
    if error.code.startswith(CODE_PREFIX):
        return error.code.removeprefix(CODE_PREFIX)
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return "HTTPMethodNotAllowed"
    return next((name for kind, name in _TYPES.items() if isinstance(error, kind)), "HTTPInternalServerError")


def _message(error: MusterError, status: HTTPStatus) -> str:
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return "Request Failed: internal server error while processing your request."
    return error.message
