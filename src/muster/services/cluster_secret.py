"""One secret that all workers of a cluster know, and what is derived from it: a key of its own for each purpose."""

import base64

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from muster.base.errors import Invalid

LENGTH_MIN = 32  # characters; drawn at random, at least 128 bits in any usual alphabet


class ClusterSecret:
    """Derives keys by HKDF (RFC 5869) with SHA-256: knowing one tells nothing of the secret or of another."""

    def __init__(self, secret: str) -> None:
        if len(secret) < LENGTH_MIN:
            raise Invalid(f"The cluster's secret must have at least {LENGTH_MIN} characters, drawn at random")
        self._secret = secret.encode()

    def __repr__(self) -> str:
        return "ClusterSecret(...)"

    def key(self, purpose: str) -> bytes:
        """32 bytes, the same wherever the secret is."""
        return HKDF(SHA256(), 32, salt=None, info=f"muster {purpose}".encode()).derive(self._secret)

    def password(self, purpose: str) -> str:
        """The same as text that is safe in shells and URLs."""
        return base64.urlsafe_b64encode(self.key(purpose)).decode().rstrip("=")
