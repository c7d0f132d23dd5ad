"""Devices on the network: `tcp://host:port`, `udp://host:port`. Neither is encrypted: docs/bfp.md.

Runs in: acquire process, pull thread. Name resolution and connecting block for a bounded time.
"""

import errno
import os
import socket
import struct
from functools import partial
from urllib.parse import urlsplit

from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.devices.link import FdTransport

CONNECT_S = 2.0
# Asked for: two seconds of a helmet. The kernel gives at most net.core.rmem_max.
RECEIVE_BYTES = 4 * 1024 * 1024
_SO_MEMINFO = 55  # sock_diag(7): nine u32, the last one counts what was dropped
_MEMINFO = struct.Struct("=9I")
_SCHEMES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
BEYOND = "its port number is out of range, the highest is 65535"
_KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}


def is_network(port: str) -> bool:
    return port.partition("://")[0] in _SCHEMES and "://" in port


def is_datagram(port: str) -> bool:
    return port.startswith("udp://")


def is_beyond(digits: str) -> bool:
    """Whether a port number is none; an int() of thousands of digits would be refused by Python."""
    return len(digits) > 5 or int(digits) > 65_535


def parse(
    port: str, *, remedy: str = "Correct `port` in the device's settings"
) -> tuple[str, str, int]:
    """(tcp or udp, host, number); ConfigError `invalid`."""
    digits = port.rpartition(":")[2]
    try:
        parts = urlsplit(port)
        number = parts.port
    except ValueError:
        parts, number = urlsplit(""), None
    path_is_empty = not (parts.path or parts.query or parts.fragment or parts.username)
    if parts.scheme not in _SCHEMES or not parts.hostname or number is None or not path_is_empty:
        raise ConfigError(
            "invalid",
            f"{port!r} is no address of a device",
            why=BEYOND
            if is_network(port) and digits.isdecimal() and is_beyond(digits)
            else "it has not the form tcp://HOST:PORT or udp://HOST:PORT",
            remedy=remedy,
        )
    return parts.scheme, parts.hostname, number


def places(port: str) -> frozenset[tuple[str, str, int]]:
    """Where an address leads, whatever name it has there: (tcp or udp, IP address, number)."""
    scheme, host, number = parse(port)
    try:
        found = socket.getaddrinfo(host, number, type=_SCHEMES[scheme])
    except (socket.gaierror, UnicodeError):
        return frozenset({(scheme, host, number)})
    return frozenset((scheme, str(address[0]), number) for *_, address in found)


def open_network(port: str) -> FdTransport:
    """Connect. DeviceError: unknown_host, connection_refused, unreachable, no_answer, link_lost."""
    scheme, host, number = parse(port)
    try:
        found = socket.getaddrinfo(host, number, type=_SCHEMES[scheme])
    except (socket.gaierror, UnicodeError) as error:
        raise DeviceError(
            "unknown_host",
            f"cannot open {port}",
            why=f"the name {host} is not known",
            remedy="Correct `port` in the device's settings, or look whether the network is up",
            transient=True,
            port=port,
        ) from error
    last: OSError = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, kind, protocol, _, address in found:
        link = socket.socket(family, kind, protocol)
        try:
            link.settimeout(CONNECT_S)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            link.connect(address)
            if scheme == "tcp":
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in _KEEP_ALIVE.items():
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            link.setblocking(False)
        except OSError as error:
            link.close()
            last = error
            continue
        if scheme == "tcp":
            return FdTransport(port, link.fileno(), link.close)
        count = partial(_dropped, link)
        return FdTransport(port, link.fileno(), link.close, count_dropped=count)
    raise _not_reached(port, last) from last


def _dropped(link: socket.socket) -> int:
    try:
        found = link.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0  # a kernel that does not tell (before Linux 4.12)
    return int(_MEMINFO.unpack(found)[-1])


def _not_reached(port: str, error: OSError) -> DeviceError:
    if isinstance(error, TimeoutError):
        code, why = "no_answer", f"nothing answered within {CONNECT_S:g} s"
    elif error.errno == errno.ECONNREFUSED:
        code, why = "connection_refused", "nobody listens at that port"
    else:
        code, why = "unreachable", os.strerror(error.errno or 0).lower()
    return DeviceError(
        code,
        f"cannot open {port}",
        why=why,
        remedy="Switch the device on and check its cable and address; it is tried again by itself",
        transient=True,
        port=port,
    )
