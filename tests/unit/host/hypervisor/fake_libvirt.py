"""libvirt's library as far as Muster uses it, in memory: domains, and what goes wrong."""

# ruff: noqa: N802  # the names are libvirt's

from collections.abc import Callable
from typing import Any

import libvirt

from muster.host.hypervisor.libvirt.definition import domain_name


def error(code: int, origin: int = libvirt.VIR_FROM_QEMU, text: str = "no") -> libvirt.libvirtError:
    """An error of libvirt's with this code, out of this part of it."""
    made = libvirt.libvirtError(text)
    made.err = (code, origin, text, 2, None, None, None, -1, -1)
    return made


class FakeDomain:
    """A guest that runs, with the XML that libvirt would give for it. It does not hear its power button; `on_destroy`
    is called when it is ended, and may raise."""

    def __init__(self, server_id: str, xml: str = "<domain/>") -> None:
        self.server_id, self.xml = server_id, xml
        self.presses = 0
        self.on_destroy: Callable[[], None] = lambda: None

    def UUIDString(self) -> str:
        return self.server_id

    def name(self) -> str:
        return domain_name(self.server_id)

    def XMLDesc(self, flags: int) -> str:
        return self.xml

    def shutdownFlags(self, flags: int) -> None:
        self.presses += 1

    def destroy(self) -> None:
        self.on_destroy()


class FakeLibvirt:
    """A connection; `alive` False is one that broke. `on_create` may raise."""

    def __init__(self) -> None:
        self.domains: dict[str, FakeDomain] = {}
        self.alive = True
        self.created: list[str] = []
        self.on_create: Callable[[str], None] = lambda xml: None

    def isAlive(self) -> bool:
        return self.alive

    def listAllDomains(self, flags: int) -> list[FakeDomain]:
        return list(self.domains.values())

    def lookupByUUIDString(self, server_id: str) -> FakeDomain:
        if server_id not in self.domains:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        return self.domains[server_id]

    def createXML(self, xml: str, flags: int) -> None:
        self.on_create(xml)
        self.created.append(xml)

    def domainEventRegisterAny(self, domain: object, event: int, listener: object, opaque: object) -> int:
        return event

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in ("setKeepAlive", "registerCloseCallback", "unregisterCloseCallback", "domainEventDeregisterAny"):
            return lambda *_: None
        if name == "close":
            return lambda: None
        raise AttributeError(name)
