"""The one tree of errors.

Each class has a stable `code`, which clients of the log, of metrics and of the HTTP faces may rely on; nothing ever
decides by an error's text. Adapters wrap the errors of their libraries in these with `raise ... from`.
"""

from typing import ClassVar


class MusterError(Exception):
    """Root of all errors that Muster raises on purpose; `message` may be shown to a user."""

    code: ClassVar[str] = "muster.error"

    def __init__(self, message: str = "", *, code: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        if code is not None:
            self.code = code  # type: ignore[misc]  # an instance may be more precise than its class


class Invalid(MusterError):
    """The request can never succeed as it stands (HTTP 400)."""

    code = "muster.invalid"


class Unauthenticated(MusterError):
    """Who asks is not known: no token, a bad one, or one that has expired (HTTP 401)."""

    code = "muster.unauthenticated"


class Forbidden(MusterError):
    """Who asks is known but may not do this (HTTP 403). Quota exceeded is one of these in compute."""

    code = "muster.forbidden"


class NotFound(MusterError):
    """What was named does not exist, or is not visible to who asks (HTTP 404)."""

    code = "muster.not_found"


class Conflict(MusterError):
    """The present state does not allow it; another time it may (HTTP 409)."""

    code = "muster.conflict"


class Exhausted(MusterError):
    """Something finite has run out: addresses, quota, capacity. Never the result of a lost race."""

    code = "muster.exhausted"


class TooLarge(MusterError):
    """A body or a value is larger than the stated limit (HTTP 413)."""

    code = "muster.too_large"


class Unsupported(MusterError):
    """A form, type or version that is not offered (HTTP 415, 406 or 501, by its code)."""

    code = "muster.unsupported"


class Transient(MusterError):
    """Something needed is away for a moment; trying again after `retry_after_s` makes sense (HTTP 503)."""

    code = "muster.transient"

    def __init__(
        self, message: str = "", *, retry_after_s: float = 1.0, code: str | None = None, **details: object
    ) -> None:
        super().__init__(message, code=code, **details)
        self.retry_after_s = retry_after_s


class Away(Transient):
    """Something needed went away before anything was done: all of it may be done again once it is back."""

    code = "muster.away"


class InDoubt(Transient):
    """Something needed went away while it did what was asked, and whether it was done could not be found out."""

    code = "muster.in_doubt"


class Stale(MusterError):
    """A conditional write found that what it was decided on has changed: read again, decide again. Not for users."""

    code = "muster.stale"


class Bug(MusterError):
    """An invariant does not hold. Shown to users as an internal error without details, logged in full."""

    code = "muster.bug"
