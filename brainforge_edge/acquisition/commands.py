"""Does what the supervisor asks of the device, one command at a time.

Runs in: acquire process. `take` in the main thread; the command itself in a thread of its own, so
that a device which answers slowly, or never, delays neither samples nor the heartbeat.
"""

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.errors import BrainforgeError, DeviceError
from brainforge_edge.core.threads import named
from brainforge_edge.devices.base import DeviceCommand, DeviceReply

_log = log.get()


class Commands:
    """`do` is the driver's `command`; `send` may be called by any thread."""

    def __init__(
        self,
        device: str,
        do: Callable[[DeviceCommand], DeviceReply],
        send: Callable[[ipc.Message], None],
    ) -> None:
        self._device = device
        self._do = do
        self._send = send
        self._thread: threading.Thread | None = None

    def take(self, message: ipc.Command) -> None:
        if self._thread is not None and self._thread.is_alive():
            busy = DeviceError(
                "busy",
                f"{self._device} did not do {message.name!r}",
                why="it is at work on another command",
                remedy="Try again when that is done",
                transient=True,
            )
            self._send(ipc.CommandDone(token=message.token, error=busy.as_dict()))
            return
        self._thread = named("command", lambda: self._run(message), daemon=True)
        self._thread.start()

    def _run(self, message: ipc.Command) -> None:
        command = DeviceCommand(
            name=message.name, arguments=message.arguments, recording=message.recording
        )
        error: dict[str, Any] | None = None
        values: dict[str, Any] = {}
        try:
            # What a driver answers must be able to travel.
            values = msgspec.to_builtins(self._do(command).values, str_keys=True)
        except BrainforgeError as refused:
            error = refused.as_dict()
        except Exception:  # noqa: BLE001  outermost of its thread: the recording goes on
            _log.exception("command failed", device=self._device, command=message.name)
            error = DeviceError(
                "command_failed",
                f"{self._device} did not do {message.name!r}",
                why="its driver failed; the log has the details",
                remedy="Report this; the recording goes on",
            ).as_dict()
        self._send(ipc.CommandDone(token=message.token, values=values, error=error))
