"""What a user asks to be written is decided again when the database lets another transaction go first or breaks off,
instead of being answered 503: a new write that is not is noticed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import muster.services

# What takes a function and calls it again; `creation` and `removal` are write transactions of ports, `transaction` of
# these and of what hosts hear.
_AGAIN = {"redeciding", "redecided", "redeciding_calls"}
_WRITES = {"write", "transaction", "creation", "removal"}

# Writes that nobody waits for, or that are begun again elsewhere.
_OTHERWISE = {
    # Tasks that repeat, and what is done once at the start of a process.
    "dispatcher._remove",
    "identity_bootstrap.bootstrap",
    "image_holders.forget",
    "image_uploads._registered",
    "image_uploads.sweep",
    "purging.remove_in_parts",
    "restored.begin_anew",
    "revocations.refresh",
    "statistics.refresh",
    "token_keys.prepare",
    "token_keys.reseal",
    "token_keys.rotate",
    "user_quotas.recount",
    # Whoever reads what hosts say decides again about the whole batch (`HostReports.run`).
    "host_beats.take",
    "host_reports._take_reports",
    # Transactions for others, who are looked at themselves.
    "outbox.transaction",
    "port_batch._fenced",
    "port_batch.removal",
    "revocations.write",
    # They move files too; an image whose file does not get there is fetched, or waits for its content, again.
    "image_holders._adopted",
    "image_holders._publish",
    "image_uploads._give_up",
    "image_uploads._receive",
}


def _called(node: ast.AST) -> str:
    """The name of what is called, without what it is of."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


def _named(call: ast.Call) -> set[str]:
    """The functions, and methods of `self`, that the arguments of a call name."""
    nodes = [node for argument in call.args for node in ast.walk(argument)]
    own = (node for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self")
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {node.attr for node in own}


def _lonely(source: str) -> Iterator[str]:
    """The functions that write and are not decided again, by whatever is around them or by whoever hands them on."""
    module = ast.parse(source)
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    again = {name for call in calls if _called(call) in _AGAIN for name in _named(call)}

    def look(node: ast.AST, function: str, decided: bool) -> Iterator[str]:
        if isinstance(node, ast.AsyncFunctionDef):
            function = node.name
            decided = decided or function in again or any(_called(one) in _AGAIN for one in node.decorator_list)
        writes = isinstance(node, ast.AsyncWith) and any(_called(one.context_expr) in _WRITES for one in node.items)
        if writes and not decided:
            yield function
        for child in ast.iter_child_nodes(node):
            yield from look(child, function, decided)

    return look(module, "", False)


def test_what_is_written_is_decided_again() -> None:
    folder = Path(muster.services.__path__[0])
    lonely = {f"{path.stem}.{name}" for path in sorted(folder.glob("*.py")) for name in _lonely(path.read_text())}
    assert lonely - _OTHERWISE == set(), "decide them again (services/redecide.py), or say here who does"


def test_a_write_that_is_not_decided_again_is_noticed() -> None:
    class_ = "class A:\n    @redeciding_calls('a')\n    async def one(self):\n{0}    async def two(self):\n{0}"
    write = "        async with self._database.write() as connection:\n            pass\n"
    assert list(_lonely(class_.format(write))) == ["two"]
    assert list(_lonely(class_.format(write) + "        await redeciding('a', self.two)\n")) == []
