"""Keys made for users who bring none. Blocking, 50 ms each: to be called in a thread."""

import base64
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

_KEY_BITS = 2048
_VALID = timedelta(days=3650)
_USER_PRINCIPAL_NAME = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING = 0x0C  # the tag of DER


def ssh_pair() -> tuple[str, str]:
    """A new private key (PEM) and its public key (OpenSSH)."""
    key = _key()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} Generated-by-Muster"


def certificate_pair(user_id: str, now: float) -> tuple[str, str]:
    """A new key with its certificate (PKCS #12 in base64, no password), and the certificate (PEM).

    For logging in to Windows by WinRM, as Nova makes it: the user's principal name is `user@localhost`.
    """
    key = _key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64])])
    principal = f"{user_id[:64]}@localhost".encode()
    other_name = x509.OtherName(_USER_PRINCIPAL_NAME, bytes([_UTF8_STRING, len(principal)]) + principal)
    began = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + _VALID)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([other_name]), critical=False)
        .sign(key, SHA256())
    )
    archive = pkcs12.serialize_key_and_certificates(None, key, certificate, None, NoEncryption())
    return base64.b64encode(archive).decode(), certificate.public_bytes(Encoding.PEM).decode()


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)
