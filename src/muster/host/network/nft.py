"""libnftables through ctypes: transactions without starting a process.

One `Nftables` belongs to one thread: the library's context is not thread-safe, and its netlink socket lives in the
network namespace of the thread that made it. Source: libnftables(3).
"""

import ctypes
import errno
from typing import Any, cast

import msgspec

from muster.base.errors import Transient, Unsupported
from muster.base.metrics import NFT_TRANSACTIONS

LIBRARY = "libnftables.so.1"
_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON


class NftFailed(Transient):
    """nft refused a transaction; nothing of it was applied."""

    code = "muster.host.nft_failed"


class Nftables:
    """A libnftables context. Raises Unsupported when the library is missing."""

    def __init__(self) -> None:
        try:
            self._lib = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError as error:
            raise Unsupported(f"{LIBRARY} is missing; install nftables (Debian: libnftables1)") from error
        self._lib.nft_ctx_new.restype = ctypes.c_void_p
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(self._lib, name).restype = ctypes.c_char_p
        context = self._lib.nft_ctx_new(0)
        if not context:
            raise Unsupported("nftables cannot be used here; root (CAP_NET_ADMIN) and kernel nf_tables are needed")
        self._context = ctypes.c_void_p(context)
        self._lib.nft_ctx_buffer_output(self._context)
        self._lib.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> None:
        """Apply `text` as one atomic transaction. Raises NftFailed. Cost: a few netlink messages per batch."""
        NFT_TRANSACTIONS.inc()
        self._run(text)

    def works(self, text: str) -> bool:
        """Whether the kernel would take `text`; changes nothing (nft's check mode)."""
        self._lib.nft_ctx_set_dry_run(self._context, ctypes.c_bool(True))
        try:
            self._run(text)
        except NftFailed:
            return False
        finally:
            self._lib.nft_ctx_set_dry_run(self._context, ctypes.c_bool(False))
        return True

    def has_rules(self, family: str, table: str, chain: str) -> bool:
        """Whether a chain stands, and rules in it. Cost: a look at one chain, whatever else the table holds."""
        return any("rule" in item for item in self._listed(f"chain {family} {table} {chain}") or ())

    def table(self, family: str, name: str) -> list[dict[str, Any]] | None:
        """All objects of a table as nft's JSON has them (libnftables-json(5)), or None without such a table.

        Cost grows with what the table holds; used when an agent starts, not per batch.
        """
        return self._listed(f"table {family} {name}")

    def close(self) -> None:
        """Give the context back."""
        if self._context:
            self._lib.nft_ctx_free(self._context)
            self._context = ctypes.c_void_p(None)

    def _listed(self, what: str) -> list[dict[str, Any]] | None:
        self._lib.nft_ctx_output_set_flags(self._context, _JSON)
        try:
            output = self._run(f"list {what}")
        except NftFailed as failure:
            if failure.details.get("errno") == errno.ENOENT:
                return None
            raise
        finally:
            self._lib.nft_ctx_output_set_flags(self._context, 0)
        return cast(list[dict[str, Any]], msgspec.json.decode(output)["nftables"])

    def _run(self, text: str) -> bytes:
        ctypes.set_errno(0)
        status = self._lib.nft_run_cmd_from_buffer(self._context, text.encode())
        number = ctypes.get_errno()
        output = bytes(self._lib.nft_ctx_get_output_buffer(self._context) or b"")
        said = bytes(self._lib.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
        if status != 0:
            missing = errno.ENOENT if "No such file" in said else number
            raise NftFailed(f"nftables refused a transaction, nothing was changed: {said[:2000]}", errno=missing)
        return output
