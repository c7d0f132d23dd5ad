"""A TCP server that speaks LabRecorder's remote control and drives this box's recordings.

Runs in: lsl process, a thread with an asyncio loop of its own. Asks the daemon as any other client
does, through its control socket. No authentication: off by default, and loopback unless told.
"""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import log
from brainforge_edge.core.config import LslConfig
from brainforge_edge.core.errors import BrainforgeError, TransportError, from_dict
from brainforge_edge.core.threads import named
from brainforge_edge.outlets import rcs

MAX_CLIENTS = 8
LINE_S = 30.0  # a line that is begun is ended within this time
ANSWER_S = 150.0  # stopping waits for the last chunk
MAX_REPLY = 1024 * 1024
MOST_TRIES = 20  # name, name-2, …: what is there is never written over

_log = log.get()


class Remote:
    """Listens from `start` to `stop`."""

    def __init__(self, config: LslConfig, *, control: Path) -> None:
        self._config = config
        self._control = control
        self._loop = asyncio.new_event_loop()
        self._thread = named("remote", self._run, daemon=True)
        self._listening = threading.Event()
        self._fields: dict[str, str] = {}
        self._ending: asyncio.Event | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.commands = 0
        self.crashed: BaseException | None = None

    def start(self) -> None:
        """TransportError if the port cannot be had."""
        self._thread.start()
        self._listening.wait(10.0)
        if self.crashed is not None:
            self._thread.join(5.0)
            raise self.crashed

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join(5.0)

    def _end(self) -> None:
        if self._ending is not None:
            self._ending.set()

    def stats(self) -> dict[str, Any]:
        return {"clients": len(self._clients), "commands": self.commands}

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self.crashed = error
        finally:
            self._listening.set()
            self._loop.close()

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        where = f"{self._config.remote_host}:{self._config.remote_port}"
        try:
            server = await asyncio.start_server(
                self._accept,
                self._config.remote_host,
                self._config.remote_port,
                limit=rcs.MAX_LINE,
            )
        except OSError as error:
            raise TransportError(
                "remote_port",
                f"the remote control cannot listen at {where}",
                why=str(error.strerror or error).lower(),
                remedy="End the program that holds the port, or set another [lsl] remote_port",
            ) from error
        self._listening.set()
        _log.info("remote control listens", at=where)
        await self._ending.wait()
        server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        task = self._loop.create_task(self._serve_client(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._talk(reader, writer)
        except (ConnectionError, TimeoutError) as error:
            _log.info("remote client dropped", reason=str(error) or "slow")
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client goes; one that sends no line end, or too long a line, is let go."""
        while begin := await reader.read(1):  # may wait for hours: scripts keep the connection
            try:
                rest = b"" if begin == b"\n" else await asyncio.wait_for(
                    reader.readuntil(b"\n"), LINE_S
                )  # fmt: skip
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                _log.info("remote client dropped", reason=str(error))
                return
            self.commands += 1
            answer = await self._answer((begin + rest).decode("utf-8", "replace"))
            writer.write(answer.encode())
            await asyncio.wait_for(writer.drain(), LINE_S)

    async def _answer(self, line: str) -> str:
        """`OK` as LabRecorder says it, or one line that begins with ERROR."""
        command = rcs.parse(line)
        try:
            match command.verb:
                case rcs.Verb.START:
                    await self._start_recording()
                case rcs.Verb.STOP:
                    await self._ask("stop")
                case rcs.Verb.FILENAME:
                    self._fields.update(command.fields)
                case rcs.Verb.UNKNOWN:
                    return "ERROR unknown command\n"
                case _:
                    pass  # everything that the box drives is recorded, always
        except BrainforgeError as error:
            return f"ERROR {error}\n"
        return "OK"

    async def _start_recording(self) -> None:
        name = rcs.recording_name(self._fields)
        tried = name
        for number in range(2, MOST_TRIES + 2):
            try:
                await self._ask("record", name=tried)
            except BrainforgeError as error:
                if error.code != "session.name_used" or number > MOST_TRIES:
                    raise
                tried = f"{name}-{number}"
            else:
                return

    async def _ask(self, verb: str, **fields: object) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(
                    str(self._control), limit=MAX_REPLY
                )
                try:
                    writer.write(msgspec.json.encode({"verb": verb, **fields}) + b"\n")
                    line = await reader.readline()
                finally:
                    writer.close()
            reply = msgspec.json.decode(line, type=dict[str, Any])
        except (OSError, TimeoutError, ValueError) as error:
            raise TransportError(
                "no_reply",
                f"the daemon did not {verb}",
                why=str(error) or "it gave no answer in time",
                remedy="See brainforge-edge status",
                transient=True,
            ) from error
        if not reply.get("ok"):
            raise from_dict(reply["error"])
