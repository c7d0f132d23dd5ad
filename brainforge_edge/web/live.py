"""What viewers see live: texts, and rows as binary frames. Runs in: web process, its asyncio loop.

The newest wins for each viewer: one that does not take its frames loses them, and costs nobody
else anything.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from brainforge_edge.core import log
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.web.daemon import Daemon, start_session
from brainforge_edge.web.frames import Rows, rows_of
from brainforge_edge.web.guard import Message, Receive, Send
from brainforge_edge.web.logins import PERSON, Person, Role
from brainforge_edge.web.problem import Problem, invalid, not_allowed, of_error
from brainforge_edge.web.requests import Scan

START: Final = "start_session"
MOST_ANSWERS: Final = 8
MAX_DATAGRAM: Final = 512 * 1024
MOST_FRAMES: Final = 8  # that wait for a viewer: a third of a second
_NOT_UNDERSTOOD: Final = 1007

_log = log.get(part="web")


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a viewer asks for: some channels of one stream, or none."""

    stream: str = ""
    first: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    count: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 16


class _Viewer:
    def __init__(self, person: Person | None) -> None:
        self.person = person  # None where nobody logs in
        self.n_answers = 0
        self.look = Look()
        self.texts: dict[str, bytes] = {}  # kind → its newest
        self.frames: deque[bytes] = deque(maxlen=MOST_FRAMES)
        self.waits = asyncio.Event()

    def tell(self, kind: str, text: bytes) -> None:
        self.texts[kind] = text
        self.waits.set()

    def answer(self, text: bytes) -> None:
        """To a wish: one that is not taken for eight more makes room."""
        self.n_answers += 1
        self.tell(f"answer {self.n_answers % MOST_ANSWERS}", text)

    def show(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.waits.set()


class Live:
    """All viewers; an ASGI application for their WebSockets."""

    def __init__(self, status: Callable[[], msgspec.Struct], daemon: Daemon) -> None:
        self._status = status
        self._daemon = daemon
        self._viewers: set[_Viewer] = set()
        self._streams: dict[str, tuple[int, StreamInfo]] = {}

    @property
    def n_viewers(self) -> int:
        return len(self._viewers)

    def follow(self, screen: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """Hand on what the pipeline sends, for as long as the loop runs."""
        screen.setblocking(False)
        loop.add_reader(screen, self._take, screen)

    def opened(self, info: StreamInfo) -> None:
        """A stream that can be looked at; it keeps its number."""
        number, _ = self._streams.get(info.stream_id, (len(self._streams), info))
        self._streams[info.stream_id] = number, info
        self.tell("streams", self._described())

    def streams_of(self, device: str) -> list[str]:
        """Ids of those that can be looked at."""
        return sorted(name for name, (_, info) in self._streams.items() if info.device == device)

    def told(self) -> None:
        """The status is another."""
        if self._viewers:
            self.tell("status", self._said())

    def _take(self, screen: socket.socket) -> None:
        while True:
            try:
                rows = rows_of(screen.recv(MAX_DATAGRAM))
            except BlockingIOError:
                return
            if rows is not None:
                self._show(rows)

    def _show(self, rows: Rows) -> None:
        number, info = self._streams.get(rows.head.stream_id, (-1, None))
        if info is None or info.n_channels != rows.head.n_channels:
            return
        for viewer in self._viewers:
            look = viewer.look
            if look.stream == info.stream_id and look.first < info.n_channels:
                viewer.show(rows.frame(number, look.first, look.count))

    def tell(self, kind: str, text: bytes) -> None:
        """To every viewer; it takes the place of an older one of its kind that waits still."""
        for viewer in self._viewers:
            viewer.tell(kind, text)

    def forget(self, kind: str) -> None:
        """What waits of it still is no longer so."""
        for viewer in self._viewers:
            viewer.texts.pop(kind, None)

    def _said(self) -> bytes:
        return msgspec.json.encode({"kind": "status", "said": self._status()})

    def _described(self) -> bytes:
        streams = [
            {
                "number": number,
                "stream_id": info.stream_id,
                "device": info.device,
                "sfreq": info.sfreq,
                "channels": [[c.name, c.type, c.unit] for c in info.channels],
            }
            for number, info in self._streams.values()
        ]
        return msgspec.json.encode({"kind": "streams", "streams": streams})

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if scope["path"] != "/live":
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "websocket.accept"})
        viewer = _Viewer(scope.get(PERSON))
        viewer.tell("streams", self._described())
        viewer.tell("status", self._said())
        self._viewers.add(viewer)
        sending = asyncio.create_task(_send_to(viewer, send))
        try:
            await self._hear(viewer, receive, send)
        finally:
            self._viewers.discard(viewer)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _hear(self, viewer: _Viewer, receive: Receive, send: Send) -> None:
        while True:
            message: Message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            said = message.get("text") or message.get("bytes") or b""
            try:
                words = msgspec.json.decode(said)
                if isinstance(words, dict) and words.get("type") == START:
                    viewer.answer(await self._started(viewer.person, words))
                    continue
                viewer.look = msgspec.convert(words, Look)
            except GARBLED as error:
                reason = f"send {{stream, first, count}} as JSON: {error}"[:120]
                close = {"type": "websocket.close", "code": _NOT_UNDERSTOOD, "reason": reason}
                await send(close)
                return
            viewer.frames.clear()

    async def _started(self, person: Person | None, words: dict[str, Any]) -> bytes:
        """The answer to `start_session`: as POST /sessions has it, with the same checks."""
        try:
            if person is not None and person.role is not Role.OPERATOR:
                return _refused(not_allowed(person))
            given = {key: value for key, value in words.items() if key != "type"}
            wish = msgspec.convert(given, Scan)
            if person is not None:
                _log.info("asked by a person", name=person.name, path=START)
            said = await start_session(self._daemon, wish)
        except msgspec.ValidationError as error:
            return _refused(invalid(str(error)))
        except BrainforgeError as error:
            return _refused(of_error(error))
        return msgspec.json.encode({"kind": "session_started", "said": said})


def _refused(said: Problem) -> bytes:
    return msgspec.json.encode({"kind": "problem", "said": said})


async def _send_to(viewer: _Viewer, send: Send) -> None:
    """`send` waits for as long as the viewer does not take what it has; meanwhile newer ones replace older."""
    while True:
        await viewer.waits.wait()
        viewer.waits.clear()
        while viewer.texts or viewer.frames:
            for kind in list(viewer.texts):
                text = viewer.texts.pop(kind, None)
                if text is not None:
                    await send({"type": "websocket.send", "text": text.decode()})
            if viewer.frames:
                await send({"type": "websocket.send", "bytes": viewer.frames.popleft()})
