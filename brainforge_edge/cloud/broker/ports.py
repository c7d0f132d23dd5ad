"""Free ports of this machine. Runs in: whoever starts a broker here."""

import random
import socket
from pathlib import Path
from typing import Final

_OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LEAST: Final = 10_000
_LOOKS: Final = 100


def free_port(
    kind: socket.SocketKind = socket.SOCK_STREAM, chance: random.Random | None = None
) -> int:
    """A port of 127.0.0.1 at which nobody is, below those that the kernel gives to outgoing connections:
    it is free still where a server is started there, or started again, some time later."""
    outgoing = int(_OUTGOING.read_text().split()[0]) if _OUTGOING.exists() else 0
    if outgoing > _LEAST + _LOOKS:
        for port in (chance or random.SystemRandom()).sample(range(_LEAST, outgoing), _LOOKS):
            if is_free("127.0.0.1", port, kind):
                return port
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_free(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a server can be bound there."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
        return True
