"""One secret that all workers of a cluster know, and what is derived from it: a key of its own for each purpose.

While the secret is replaced, workers of old and new settings serve side by side. Invariant: who knows several secrets
seals and signs for all of them, so that whoever knows one of them understands it.
"""

import base64
from collections.abc import Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from muster.base.errors import Invalid

LENGTH_MIN = 32  # characters; drawn at random, at least 128 bits in any usual alphabet


class ClusterSecret:
    """Derives keys by HKDF (RFC 5869) with SHA-256: knowing one tells nothing of the secret or of another."""

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        """`previous` are secrets that others may still have, or that something is still sealed with."""
        if any(len(one) < LENGTH_MIN for one in (secret, *previous)):
            raise Invalid(f"The cluster's secret must have at least {LENGTH_MIN} characters, drawn at random")
        self._secrets = [one.encode() for one in dict.fromkeys((secret, *previous))]

    def __repr__(self) -> str:
        return "ClusterSecret(...)"

    def key(self, purpose: str) -> bytes:
        """32 bytes, the same wherever the secret is."""
        return self.keys(purpose)[0]

    def keys(self, purpose: str) -> list[bytes]:
        """The same of each secret, that of the newest first."""
        info = f"muster {purpose}".encode()
        return [HKDF(SHA256(), 32, salt=None, info=info).derive(secret) for secret in self._secrets]

    def password(self, purpose: str) -> str:
        """The same as text that is safe in shells and URLs."""
        return base64.urlsafe_b64encode(self.key(purpose)).decode().rstrip("=")
