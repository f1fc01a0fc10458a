"""Plays the guests of many taps in one process: DHCP exchanges and renewals on demand, answers to ARP and ping always.

Each guest has its own tap, MAC and address, since the host lets nobody speak for another. A command is a line on
standard input (`lease N`, `renew N` with at most N guests waiting at a time); its result is a line of JSON.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from ctypes import addressof, create_string_buffer

import msgspec

from benchmarks.frames import (
    ACK,
    OFFER,
    Frames,
    Seat,
    answer_of,
    arp_reply,
    echo_reply,
    for_one_only,
    frames_of,
)
from muster.client.open_files import ensure_open_files
from muster.host.network.taps import open_taps

AGAIN_S = 3.0
_PATIENCE_S = 60.0
_TUNATTACHFILTER = 0x401054D5
# Taps of virtual machines have this header before each frame; zeros say that nothing is left to be done.
_HEADER = bytes(10)


class Work(msgspec.Struct, frozen=True):
    """What came of one command. `again`: requests that had to be repeated; `wrong`: answers other than those due."""

    duration_s: float
    done: int
    again: int
    wrong: int
    addresses: int
    latencies_s: list[float]
    cpu_s: float


class Fleet:
    """The guests. `serve` returns when standard input ends."""

    def __init__(self, seats: Sequence[Seat], files: Sequence[int]) -> None:
        self._files = files
        self._frames: list[Frames] = [frames_of(seat, 0x4D000000 + number) for number, seat in enumerate(seats)]
        self._servers = [socket.inet_aton(seat.server) for seat in seats]
        self._networks = [seat.network for seat in seats]
        self._places = {file: place for place, file in enumerate(files)}
        self._epoll = select.epoll()
        for file, seat in zip(files, seats, strict=True):
            os.set_blocking(file, False)
            _attach(file, for_one_only(seat))
            self._epoll.register(file, select.EPOLLIN)
        self._asked: dict[int, tuple[bytes, float, float]] = {}  # place -> (last said, first and last time)
        self._renewing = False
        self._again = self._wrong = 0
        self._latencies: list[float] = []
        self._given: set[tuple[str, bytes]] = set()

    def serve(self) -> None:
        """Do what the commands say."""
        self._epoll.register(0, select.EPOLLIN)
        print("{}", flush=True)
        while True:
            for file, _ in self._epoll.poll():
                if file:
                    self._hear(file)
                    continue
                command = sys.stdin.readline().split()
                if not command:
                    return
                work = self._work(renewing=command[0] == "renew", window=int(command[1]))
                print(msgspec.json.encode(work).decode(), flush=True)

    def _work(self, *, renewing: bool, window: int) -> Work:
        self._renewing, self._again, self._wrong = renewing, 0, 0
        self._latencies, self._given = [], set()
        # One guest of each network in turn.
        waiting = iter(range(len(self._frames)))
        began, cpu = time.monotonic(), time.process_time()
        looked = began
        while len(self._latencies) < len(self._frames) and time.monotonic() - began < _PATIENCE_S:
            while len(self._asked) < window and (place := next(waiting, None)) is not None:
                frames = self._frames[place]
                self._say(place, frames.renew if renewing else frames.discover, time.monotonic())
            for file, _ in self._epoll.poll(0.5):
                if file:
                    self._hear(file)
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                self._repeat(looked)
        self._asked.clear()
        return Work(
            duration_s=time.monotonic() - began,
            done=len(self._latencies),
            again=self._again,
            wrong=self._wrong,
            addresses=len(self._given),
            latencies_s=self._latencies,
            cpu_s=time.process_time() - cpu,
        )

    def _say(self, place: int, frame: bytes, first: float) -> None:
        self._asked[place] = (frame, first, time.monotonic())
        os.write(self._files[place], _HEADER + frame)

    def _repeat(self, now: float) -> None:
        for place, (frame, first, last) in list(self._asked.items()):
            if now - last > AGAIN_S:
                self._again += 1
                self._say(place, frame, first)

    def _hear(self, file: int) -> None:
        try:
            frame = os.read(file, 2048)[10:]
        except BlockingIOError:
            return
        place = self._places[file]
        frames = self._frames[place]
        answer = answer_of(frame, frames.xid)
        if answer is not None:
            self._take(place, frames, *answer)
            return
        reply = arp_reply(frame, frames.mac) or echo_reply(frame)
        if reply is not None:
            os.write(file, _HEADER + reply)

    def _take(self, place: int, frames: Frames, kind: int, address: bytes, server: bytes) -> None:
        asked = self._asked.get(place)
        if asked is None:
            return
        due = OFFER if asked[0] is frames.discover else ACK
        if kind != due or address != frames.address or server != self._servers[place]:
            self._wrong += 1
        elif kind == OFFER:
            self._say(place, frames.request, asked[1])
        else:
            del self._asked[place]
            self._given.add((self._networks[place], address))
            self._latencies.append(time.monotonic() - asked[1])


def _attach(file: int, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let the kernel drop what is not for this tap's guest."""
    code = create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    fcntl.ioctl(file, _TUNATTACHFILTER, struct.pack("HxxxxxxP", len(program), addressof(code)))


def main(seats_file: str) -> None:
    with open(seats_file, "rb") as file:
        seats = msgspec.json.decode(file.read(), type=list[Seat])
    ensure_open_files(len(seats) + 100)
    with open_taps([seat.tap for seat in seats], None) as files:
        Fleet(seats, files).serve()


if __name__ == "__main__":
    main(sys.argv[1])
