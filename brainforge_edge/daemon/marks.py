"""Markers of people and of devices, on their way to the agent and to who else carries them.

Runs in: supervisor, its asyncio loop.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from brainforge_edge.core import ipc
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.daemon.arguments import number, text
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.commands import Commands
from brainforge_edge.daemon.recordings import Recordings


class Marks:
    """The verb `mark`; `tell_lsl` offers a marker to other programs."""

    def __init__(
        self,
        recordings: Recordings,
        commands: Commands,
        tell_lsl: Callable[[ipc.Message], Awaitable[None]],
    ) -> None:
        self._recordings = recordings
        self._commands = commands
        self._tell_lsl = tell_lsl

    async def verb(self, request: dict[str, Any]) -> dict[str, Any]:
        """`description`, `duration` s: the recording, and `t_ns`, the box clock as the request was read."""
        duration = number(request, "duration", 0.0, most=86_400.0)
        description = text(request, "description", is_needed=True)
        reply = await self._recordings.mark(description, duration)
        mark = (reply["t_ns"], duration, description)
        await self._tell_lsl(ipc.Marks(marks=(mark,), token=0))
        await self._commands.mark(description)
        return reply

    async def store(self, child: Child, message: ipc.Marks) -> None:
        """A device's own; it is told whether they are on the disk."""
        error = None
        try:
            await self._recordings.store_marks(message.marks)
        except BrainforgeError as refused:
            error = refused.as_dict()
        await child.send(ipc.MarkStored(token=message.token, error=error))
