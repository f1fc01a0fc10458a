"""Tickets by which hosts fetch images: each is good for one image, for a while, and for nothing else.

A ticket is an expiry and a code (HMAC-SHA256 over image and expiry, RFC 2104) that only who knows the cluster's secret
can make; while the secret is replaced, one code for each secret. So hosts need no user and no password; what a host
leaks opens the images that it was told of, for an hour.
"""

import hmac
from hashlib import sha256

from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import Forbidden
from muster.domain.messages import Desired
from muster.domain.specs import Power
from muster.services.cluster_secret import ClusterSecret

LIFETIME_S = 3_600
# Expiries are multiples of it: messages that are sent soon after each other share their tickets.
_GRAIN_S = 300
#: Of a ticket that is checked: one per secret that its maker knows.
_CODES_MAX = 8


class ImageTickets:
    """Makes and checks them. Both cost microseconds and no query."""

    def __init__(self, secret: ClusterSecret, clock: Clock) -> None:
        self._keys = secret.keys("image tickets")
        self._clock = clock

    def issue(self, image_id: str) -> str:
        """A ticket for an image, good for LIFETIME_S and a little more."""
        expires_at = (int(self._clock()) + LIFETIME_S) // _GRAIN_S * _GRAIN_S + _GRAIN_S
        return ".".join((str(expires_at), *self._codes(image_id, expires_at)))

    def attach(self, message: Desired) -> Desired:
        """The message with a ticket for each image that its servers may need."""
        images = {server.image.id for server in message.servers if server.image and server.power is not Power.ABSENT}
        return replace(message, tickets={image_id: self.issue(image_id) for image_id in images}) if images else message

    def check(self, image_id: str, ticket: str) -> None:
        """Raises Forbidden unless the ticket is for this image and has not expired."""
        expiry, *codes = ticket.split(".", _CODES_MAX + 1)
        is_number = expiry.isascii() and expiry.isdigit() and len(expiry) < 16
        expected = self._codes(image_id, int(expiry)) if is_number else []
        if not any(hmac.compare_digest(code.encode(), right.encode()) for code in codes for right in expected):
            raise Forbidden("This is no ticket for this image", code="image.ticket")
        if int(expiry) <= self._clock():
            raise Forbidden("The ticket has expired", code="image.ticket")

    def _codes(self, image_id: str, expires_at: int) -> list[str]:
        said = f"{image_id}.{expires_at}".encode()
        return [hmac.new(key, said, sha256).hexdigest() for key in self._keys]
