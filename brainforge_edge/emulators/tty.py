"""An existing serial port, such as a USB gadget's /dev/ttyGS0, as the device's end of the link.

Runs in: emulator process, its only thread. Whoever pulls the real cable is not asked: the port is
taken as unplugged when the kernel hangs it up, and is opened again when `plug` is called.
"""

import array
import fcntl
import os
import termios
import tty
from pathlib import Path

from brainforge_edge.core.errors import ConfigError


class TtyPort:
    """See `device.Port`. `path` is set raw, its speed is left as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    @property
    def is_plugged(self) -> bool:
        return self._fd >= 0

    def fileno(self) -> int:
        return self._fd

    def plug(self) -> None:
        """Open the port; ConfigError if it cannot be."""
        if self.is_plugged:
            return
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            tty.setraw(self._fd, termios.TCSANOW)
        except (OSError, termios.error) as error:
            self.unplug()
            number = error.args[0]
            raise ConfigError(
                "unusable_port",
                f"cannot be a device on {self._path}",
                why=os.strerror(number).lower() if isinstance(number, int) else str(error),
                remedy="Give the path of a serial port that you may use",
            ) from error

    def unplug(self) -> None:
        if self.is_plugged:
            os.close(self._fd)
            self._fd = -1

    def read(self) -> bytes:
        try:
            data = os.read(self._fd, 65_536)
        except BlockingIOError:
            return b""
        except OSError:  # hung up
            data = b""
        if not data:
            self.unplug()
        return data

    def write(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # hung up
            self.unplug()
            return 0

    def unread(self) -> int:
        """Bytes that the kernel has not sent yet."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.TIOCOUTQ, waiting)
        return waiting[0]
