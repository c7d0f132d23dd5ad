"""Datagram socketpairs on which the pipeline hands out live messages. Runs in: supervisor."""

import socket

SEND_BUFFER = 1024 * 1024


def live_path() -> tuple[socket.socket, socket.socket]:
    """The pipeline's end and the reader's; kept open here, so that both may be restarted."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return pair
