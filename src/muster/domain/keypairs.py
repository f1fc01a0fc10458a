"""Keypairs: a user's public keys, what they may be called, and their fingerprints. Pure."""

import base64
import hashlib
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from cryptography.x509 import load_pem_x509_certificate
from msgspec import Struct

from muster.base.errors import Invalid

SSH, X509 = "ssh", "x509"
PUBLIC_KEY_LIMIT = 16_384

# What Nova allows below 2.92.
_NAME = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_ -]{0,253}[A-Za-z0-9_-])?")
_WIDER_NAME = re.compile(r"[A-Za-z0-9_@.-](?:[A-Za-z0-9_ @.-]{0,253}[A-Za-z0-9_@.-])?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Keypair(Struct, frozen=True, kw_only=True):
    """A public key under its user's name for it; one of the type x509 is a certificate in PEM."""

    user_id: str
    name: str
    type: str
    public_key: str
    fingerprint: str
    created_at: float


def check_name(name: str, *, with_addresses: bool = False) -> None:
    """Raises Invalid for a name that Nova would refuse; `with_addresses` takes what mail addresses are made of, too."""
    if not 1 <= len(name) <= 255:
        raise _invalid("Keypair name must be string and between 1 and 255 characters long")
    if (_WIDER_NAME if with_addresses else _NAME).fullmatch(name) is None:
        raise _invalid("Keypair name contains unsafe characters")


def fingerprint_of(public_key: str) -> str:
    """The MD5 fingerprint of an OpenSSH public key, as Nova and old ssh clients show it: `aa:bb:...`.

    Raises Invalid for what is no such key. A key has one line: what follows could not be told from further keys.
    """
    text = public_key.rstrip("\r\n")
    if len(text) > PUBLIC_KEY_LIMIT or _CONTROL.search(text):
        raise _invalid("failed to generate fingerprint")
    try:
        load_ssh_public_key(text.encode())
        digest = hashlib.md5(base64.b64decode(text.split()[1]), usedforsecurity=False).hexdigest()
    except (ValueError, UnsupportedAlgorithm, IndexError) as error:
        raise _invalid("failed to generate fingerprint") from error
    return _in_pairs(digest)


def certificate_fingerprint(certificate: str) -> str:
    """The SHA-1 fingerprint of a certificate in PEM, as Nova shows it. Raises Invalid for what is no certificate."""
    if len(certificate) > PUBLIC_KEY_LIMIT:
        raise _invalid("failed to generate X509 fingerprint")
    try:
        digest = load_pem_x509_certificate(certificate.encode()).fingerprint(SHA1()).hex()  # noqa: S303
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid("failed to generate X509 fingerprint") from error
    return _in_pairs(digest)


def _in_pairs(digest: str) -> str:
    return ":".join(digest[index : index + 2] for index in range(0, len(digest), 2))


def _invalid(reason: str) -> Invalid:
    return Invalid(f"Keypair data is invalid: {reason}", code="compute.keypair")
