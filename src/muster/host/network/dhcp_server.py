"""One network's dnsmasq: its files, its process, and host entries that are really served.

Files: `conf`, `pid`, `log` (a FIFO), and `hosts/` with one file per batch of entries. Adding writes one more file,
which dnsmasq takes up by inotify at a cost that does not depend on the entries already there. Changing writes all
entries anew into one file and sends SIGHUP, once per batch. What is retired stays there until that, or `compact`: it
harms nobody, since the port that had this MAC is gone, and whoever gets its MAC or address makes all be written anew.

Invariant: `add` and `replace` return when dnsmasq has read the entries (see `inotify`).
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from muster.base.errors import Invalid, Transient, Unsupported
from muster.host.network import processes
from muster.host.network.dnsmasq_config import ServerFiles, hosts_text, mac_and_address_of_line, parse_hosts
from muster.host.network.inotify import ReadWatch
from muster.host.network.receive_room import make_room
from muster.host.network.settings import NetworkSettings

Entries = Mapping[str, tuple[str, ...]]  # host entries by port id


class DhcpFailed(Transient):
    """A DHCP server does not start or does not take its entries."""

    code = "muster.host.dhcp_failed"


class DhcpServer:
    """The DHCP server of one network. Blocking; used by one thread."""

    def __init__(self, folder: Path, settings: NetworkSettings) -> None:
        self.files = ServerFiles(folder)
        self._settings = settings
        self._argument = f"--conf-file={self.files.config}"
        self.entries: dict[str, tuple[str, ...]] = {}
        self.addresses: dict[str, tuple[str, str]] = {}  # address -> (port id, MAC)
        self.retired: dict[str, tuple[str, ...]] = {}  # of ports that are gone; dnsmasq still has them
        self.tidy = True  # False: what is remembered, on disk and served may differ; `replace` sets it right
        self._load()

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return processes.find(self.files.pid, self._argument) is not None

    def open_log(self) -> int:
        """A non-blocking file of the log's FIFO; must be open before dnsmasq starts. The caller closes it."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.files.log, 0o600)
        file = os.open(self.files.log, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        # dnsmasq gives a FIFO up once nobody read it; SIGUSR2 makes it open the log again.
        processes.send(self.files.pid, self._argument, signal.SIGUSR2)
        return file

    def is_configured(self, text: str) -> bool:
        """Whether this is the configuration on disk, and so that of a server that runs."""
        with contextlib.suppress(FileNotFoundError):
            return self.files.config.read_bytes() == os.fsencode(text)
        return False

    def configure(self, text: str) -> None:
        """Write the configuration. Nothing may run with another one: whoever dies after this could not tell."""
        new = self.files.config.with_suffix(".new")
        new.write_bytes(os.fsencode(text))
        new.replace(self.files.config)

    def start(self) -> None:
        """Start it and wait until it has read its entries. Raises DhcpFailed, Unsupported."""
        with ReadWatch(self.files.hosts) as watch:
            try:
                done = subprocess.run(  # noqa: S603  # a fixed program with one argument that we made
                    [self._settings.dnsmasq_path, self._argument],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=self._settings.dhcp_timeout_s,
                    check=False,
                )
            except FileNotFoundError as error:
                raise Unsupported("dnsmasq is missing; install it (Debian: dnsmasq-base)") from error
            except subprocess.TimeoutExpired as error:
                raise DhcpFailed(f"dnsmasq with {self.files.config} does not get ready") from error
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip()[:500]
                raise DhcpFailed(f"dnsmasq with {self.files.config} does not start: {said}")
            if not watch.wait(None, self._settings.dhcp_timeout_s):
                raise DhcpFailed(f"dnsmasq with {self.files.config} does not read its entries")
        pid = processes.find(self.files.pid, self._argument)
        if pid is not None:
            make_room(pid)

    def stop(self) -> None:
        """End its process."""
        processes.stop(self.files.pid, self._argument, self._settings.dhcp_timeout_s)

    def add(self, entries: Entries) -> None:
        """Serve more entries, of ports and addresses that have none yet. Cost: one file. Raises DhcpFailed, OSError.

        Those that were retired and come again as they were are served already.
        """
        again = {port: lines for port, lines in entries.items() if lines and self.retired.get(port) == lines}
        for port in again:
            del self.retired[port]
        self._remember(again)
        entries = {port: lines for port, lines in entries.items() if port not in again}
        if self._taken() & {part for pair in map(mac_and_address_of_line, _lines(entries)) for part in pair}:
            self.replace(self.entries | entries)
            return
        text = hosts_text(entries)
        if not text:
            return
        name = self._free_name()
        with ReadWatch(self.files.hosts) as watch:
            _write(self.files.hosts / ".new", text)
            (self.files.hosts / ".new").replace(self.files.hosts / name)
            self._remember(entries)
            self.tidy = False
            self._await(watch, name)
        self.tidy = True

    def retire(self, ports: Iterable[str]) -> None:
        """Entries of these ports count no more; dnsmasq forgets them with the next `compact` or `replace`."""
        for port in ports:
            self.retired[port] = self.entries.pop(port)
            for line in self.retired[port]:
                self.addresses.pop(mac_and_address_of_line(line)[1], None)
        if not self.entries:
            self.compact()

    def compact(self) -> None:
        """What is retired is gone. Cost: none when all is well, else that of `replace`. Raises DhcpFailed, OSError."""
        if self.retired or not self.tidy:
            self.replace(self.entries)

    def replace(self, entries: Entries) -> None:
        """Serve these entries and no others. Cost: a file with all entries, one SIGHUP. Raises DhcpFailed, OSError."""
        old = [path for path in self.files.hosts.iterdir() if not path.name.startswith(".")]
        name = self._free_name()
        self.entries, self.addresses, self.tidy = {}, {}, False
        self._remember(entries)
        with ReadWatch(self.files.hosts) as watch:
            _write(self.files.hosts / ".new", hosts_text(entries))
            # A link, unlike a rename, does not wake dnsmasq's inotify: it would meet the old entries as duplicates.
            os.link(self.files.hosts / ".new", self.files.hosts / name)
            for path in (*old, self.files.hosts / ".new"):
                path.unlink()
            if processes.send(self.files.pid, self._argument, signal.SIGHUP):
                self._await(watch, None)
        self.retired, self.tidy = {}, True

    def differs(self, entries: Entries) -> bool:
        """Whether the entries on disk are not exactly these."""
        return (
            not self.tidy
            or bool(self.retired)
            or self.entries != {port: lines for port, lines in entries.items() if lines}
        )

    def remove_files(self) -> None:
        """Nothing of the server is left on disk."""
        shutil.rmtree(self.files.folder, ignore_errors=True)

    def _await(self, watch: ReadWatch, name: str | None) -> None:
        if watch.wait(name, self._settings.dhcp_timeout_s if self.running else 0.1):
            return
        if self.running:
            raise DhcpFailed(f"dnsmasq with {self.files.config} does not read its entries; is it stopped?")
        self.start()

    def _load(self) -> None:
        """Take up the entries that an earlier process left."""
        self.files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files.hosts.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(self.files.hosts.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                found = parse_hosts(path.read_text(encoding="ascii"))
            except (Invalid, ValueError):
                self.tidy = False
                continue
            addresses = {mac_and_address_of_line(line)[1] for lines in found.values() for line in lines}
            # A crash between writing all entries anew and removing the old files leaves some twice.
            self.tidy = self.tidy and not (found.keys() & self.entries.keys() or addresses & self.addresses.keys())
            self._remember(found)

    def _remember(self, entries: Entries) -> None:
        for port, lines in entries.items():
            if not lines:
                continue
            self.entries[port] = tuple(lines)
            for line in lines:
                mac, address = mac_and_address_of_line(line)
                self.addresses[address] = (port, mac)

    def _taken(self) -> set[str]:
        """MACs and addresses that are retired."""
        return {part for pair in map(mac_and_address_of_line, _lines(self.retired)) for part in pair}

    def _free_name(self) -> str:
        """The lowest free number: dnsmasq remembers every file name it has seen, so names are used again."""
        taken = {path.name for path in self.files.hosts.iterdir()}
        return next(name for name in map(str, range(len(taken) + 1)) if name not in taken)


def _lines(entries: Entries) -> Iterator[str]:
    return (line for lines in entries.values() for line in lines)


def _write(path: Path, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="ascii") as stream:
        stream.write(text)
