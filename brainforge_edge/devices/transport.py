"""Ports by name: serial ones here (pyserial's door), tcp:// and udp:// in `network`.

Runs in: acquire process, pull thread.
"""

import errno
from collections.abc import Callable
from typing import Any

import serial

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.base import Transport
from brainforge_edge.devices.link import FdTransport, errno_of, link_lost
from brainforge_edge.devices.network import is_network, open_network


def open_port(port: str, *, baud: int = 115_200) -> Transport:
    """A serial port, `tcp://host:port` or `udp://host:port`; errors as of those who open them."""
    if is_network(port):
        return open_network(port)
    return open_serial(port, baud=baud)


def open_serial(
    port: str, *, baud: int = 115_200, make: Callable[..., Any] = serial.Serial
) -> FdTransport:
    """Open `port` exclusively, 8N1, DTR high. DeviceError with a code of its own for each cause.

    Codes: no_such_port, permission, port_busy, not_serial, bad_baud, link_lost. `make` is for tests.
    """
    try:
        link = make(port, baud, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as error:
        raise _not_opened(port, error) from error
    except (ValueError, OverflowError) as error:
        raise DeviceError(
            "bad_baud",
            f"cannot open {port}",
            why=f"it does not know the speed {baud}",
            remedy="Correct `baud` in the device's settings",
        ) from error
    _reduce_latency(link)
    return FdTransport(port, link.fileno(), link.close)


def _reduce_latency(link: Any) -> None:
    """FTDI adapters otherwise hold bytes for 16 ms. Other ports know no such mode."""
    try:
        link.set_low_latency_mode(True)
    except (OSError, ValueError, AttributeError, NotImplementedError):
        return


def _not_opened(port: str, error: serial.SerialException) -> DeviceError:
    number = errno_of(error)
    if number in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return DeviceError(
            "no_such_port",
            f"cannot open {port}",
            why="there is no such port",
            remedy="Plug the device in and switch it on, or correct `port` in its settings",
            transient=True,
            port=port,
        )
    if number in {errno.EACCES, errno.EPERM}:
        return DeviceError(
            "permission",
            f"cannot open {port}",
            why="permission was refused",
            remedy="Add the user to the group dialout (usermod -aG dialout USER, then log in again)"
            " or install the udev rules that come with the package",
            port=port,
        )
    if number in {errno.EBUSY, errno.EAGAIN}:
        return DeviceError(
            "port_busy",
            f"cannot open {port}",
            why="another program uses it",
            remedy=f"Close that program (fuser {port} names it)",
            transient=True,
            port=port,
        )
    if number in {errno.ENOTTY, errno.EINVAL, errno.EISDIR, errno.ENOTDIR}:
        return DeviceError(
            "not_serial",
            f"cannot open {port}",
            why="it is not a serial device",
            remedy="Correct `port` in the device's settings; /dev/serial/by-id lists those that are plugged in",
            port=port,
        )
    return link_lost(port, error)
