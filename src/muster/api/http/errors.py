"""Errors as HTTP statuses: one table from the tree of `base.errors`. Each API dresses them in its own body."""

from http import HTTPStatus

from muster.base.errors import (
    Bug,
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

STATUS: dict[type[MusterError], HTTPStatus] = {
    Invalid: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Exhausted: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Unsupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Transient: HTTPStatus.SERVICE_UNAVAILABLE,
    Stale: HTTPStatus.SERVICE_UNAVAILABLE,
    Bug: HTTPStatus.INTERNAL_SERVER_ERROR,
}

# Codes whose status is not that of their class.
STATUS_OF_CODE: dict[str, HTTPStatus] = {
    "http.method": HTTPStatus.METHOD_NOT_ALLOWED,
    "compute.microversion": HTTPStatus.NOT_ACCEPTABLE,
    "compute.not_implemented": HTTPStatus.NOT_IMPLEMENTED,
    "network.HTTPNotImplemented": HTTPStatus.NOT_IMPLEMENTED,
    "image.gone": HTTPStatus.GONE,
}


def status_of(error: MusterError) -> HTTPStatus:
    """The HTTP status of an error: that of its code, else that of its nearest class in the table."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR
