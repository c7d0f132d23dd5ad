"""Control socket: one JSON request a line, one JSON reply a line, for people on this machine only.

Runs in: supervisor, its asyncio loop. The socket's mode (0660) is its access control.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import log
from brainforge_edge.core.errors import BrainforgeError, SessionError, StorageError
from brainforge_edge.core.garbled import GARBLED

MAX_LINE = 64 * 1024
MAX_CLIENTS = 32
IDLE_S = 30.0  # a client that sends no whole line for this long is let go
Verb = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

_log = log.get()


async def serve(path: Path, verbs: dict[str, Verb]) -> asyncio.AbstractServer:
    """Listen at `path`; a socket left by a dead daemon is replaced, a live one refused."""
    await _refuse_second(path)
    await asyncio.to_thread(remove, path)
    clients: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(writer)
        try:
            await _talk(reader, writer, verbs, is_crowded=len(clients) > MAX_CLIENTS)
        finally:
            clients.discard(writer)

    try:
        server = await asyncio.start_unix_server(talk, path=str(path), limit=MAX_LINE)
    except OSError as error:
        raise StorageError(
            "socket",
            f"cannot listen at {path}",
            why=str(error.strerror or error).lower(),
            remedy="Check that the run directory exists, is writable and has a short path",
        ) from error
    await asyncio.to_thread(path.chmod, 0o660)
    return server


def remove(path: Path) -> None:
    """Take the socket's name away."""
    path.unlink(missing_ok=True)


async def _refuse_second(path: Path) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    raise SessionError(
        "daemon_runs",
        "the daemon was not started",
        why=f"another one answers at {path}",
        remedy="Stop that one first, or give this one another run directory",
    )


async def _talk(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    verbs: dict[str, Verb],
    *,
    is_crowded: bool,
) -> None:
    try:
        if is_crowded:
            why = f"{MAX_CLIENTS} others are connected"
            await _reply(writer, _refusal("busy", why, "Try again when they are done"))
            return
        while line := await asyncio.wait_for(reader.readline(), IDLE_S):
            await _reply(writer, await _answer(line, verbs))
    except ValueError:
        why = f"its line is longer than {MAX_LINE} bytes"
        with contextlib.suppress(ConnectionError, TimeoutError):
            await _reply(writer, _refusal("bad_request", why, "Send one JSON object a line"))
    except TimeoutError:
        _log.info("control client dropped", reason="silent")
    except ConnectionError as error:
        _log.info("control client dropped", reason=str(error))
    finally:
        writer.close()


async def _reply(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(reply) + b"\n")
    await asyncio.wait_for(writer.drain(), IDLE_S)


def _refusal(code: str, why: str, remedy: str) -> dict[str, Any]:
    error = SessionError(code, "the request was refused", why=why, remedy=remedy)
    return {"ok": False, "error": error.as_dict()}


async def _answer(line: bytes, verbs: dict[str, Verb]) -> dict[str, Any]:
    try:
        request = msgspec.json.decode(line, type=dict[str, Any])
        name = request.get("verb")
        if not isinstance(name, str) or name not in verbs:
            raise SessionError(
                "unknown_verb",
                f"the daemon does not know {name!r}",
                why=f"it knows {', '.join(sorted(verbs))}",
                remedy="Use the brainforge-edge command of the daemon's own version",
            )
        return {"ok": True, **await verbs[name](request)}
    except GARBLED as error:
        why = f"it is not one JSON object on a line ({error})"
        return _refusal("bad_request", why, "Send one JSON object a line")
    except BrainforgeError as error:
        return {"ok": False, "error": error.as_dict()}
