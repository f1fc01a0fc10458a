"""TCP connections over machines and firewalls that say nothing when they forget one."""

import socket

# Probes that an idle connection's other end may leave unanswered.
_PROBES = 3


def notice_silence(connection: socket.socket, silence_s: int) -> None:
    """Let TCP give a connection up on which nothing was heard for `silence_s`, whether or not something is sent."""
    # Probes are for an idle link (tcp(7)); the user timeout (RFC 5482) is for data that is never acknowledged.
    part_s = max(1, silence_s // (_PROBES + 1))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, part_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, part_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_s * 1_000)
