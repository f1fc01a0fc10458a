"""Seals and opens tokens. Validating one reads memory only: no database, no round trip."""

from collections import OrderedDict

import msgspec
from cryptography.fernet import InvalidToken

from muster.base.clock import Clock
from muster.base.errors import Unauthenticated
from muster.domain.context import Context
from muster.domain.tokens import Token, context_of, subjects_of
from muster.services.revocations import Revocations
from muster.services.token_keys import KeyRing

MAX_LENGTH = 8_192  # characters of a token; a real one has about 500
DENIED = "The request you have made requires authentication."


class _Opened:
    """A token that was opened, and when it was last found not to be revoked."""

    __slots__ = ("context", "generation", "subjects", "token")

    def __init__(self, token: Token, generation: int) -> None:
        self.token = token
        self.context = context_of(token)
        self.subjects = subjects_of(token)
        self.generation = generation


class TokenAuthority:
    """Tokens sealed with the keys of a ring. Implements the HTTP framework's Authenticator.

    Opened tokens are kept, the `cache_size` most recently used ones; expiry and revocation are checked every time.
    """

    def __init__(self, keys: KeyRing, revocations: Revocations, clock: Clock, *, cache_size: int = 5_000) -> None:
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self._cache_size = cache_size
        self._cache: OrderedDict[str, _Opened] = OrderedDict()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Token)
        self._keys_generation = keys.generation

    def context(self, token: str) -> Context:
        """The caller that `token` stands for. Raises Unauthenticated."""
        return self._valid(token).context

    def token(self, text: str) -> Token:
        """What a token says. Raises Unauthenticated if it is not valid."""
        return self._valid(text).token

    def seal(self, token: Token) -> str:
        """A token as text, for its bearer."""
        return self._keys.seal(self._encoder.encode(token)).decode("ascii").rstrip("=")

    def _valid(self, text: str) -> _Opened:
        if self._keys_generation != self._keys.generation:
            self._cache.clear()  # the key of one of them may be gone
            self._keys_generation = self._keys.generation
        opened = self._cache.get(text)
        if opened is None:
            opened = self._open(text)
        elif opened.generation != self._revocations.generation:
            self._check(text, opened)
        if opened.token.expires_at_s <= self._clock():
            self._cache.pop(text, None)
            raise Unauthenticated(DENIED)
        self._cache.move_to_end(text)
        return opened

    def _open(self, text: str) -> _Opened:
        if len(text) > MAX_LENGTH or not text.isascii():
            raise Unauthenticated(DENIED)
        padded = text + "=" * (-len(text) % 4)
        try:
            token = self._decoder.decode(self._keys.open(padded.encode("ascii")))
        except (InvalidToken, msgspec.ValidationError, msgspec.DecodeError) as error:
            raise Unauthenticated(DENIED) from error
        opened = _Opened(token, -1)
        self._check(text, opened)
        self._cache[text] = opened
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return opened

    def _check(self, text: str, opened: _Opened) -> None:
        if self._revocations.is_revoked(opened.subjects, opened.token.epoch):
            self._cache.pop(text, None)
            raise Unauthenticated(DENIED)
        opened.generation = self._revocations.generation
