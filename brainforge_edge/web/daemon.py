"""Asks the daemon over its control socket. Runs in: web process, its asyncio loop.

One connection a request, as the command line does: nothing is held that a restart could lose.
"""

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from brainforge_edge.core.errors import NoDaemonError, from_dict
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.web.requests import Scan

MAX_REPLY: Final = 16 * 1024 * 1024
AT_ONCE: Final = 8  # of the 32 clients that the daemon serves; the command line has its place too
ANSWER_S: Final = 10.0
LONG_S: Final = 130.0  # a stop returns when all is archived


class Daemon:
    """`ask` a verb; `path` is the daemon's socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free = asyncio.Semaphore(AT_ONCE)

    async def ask(
        self,
        verb: str,
        given: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = ANSWER_S,
        is_urgent: bool = False,
        **fields: Any,
    ) -> dict[str, Any]:
        """Its reply. NoDaemonError if none comes, else the error that the daemon replied with.

        `given` holds what a caller named, `fields` what we do. What is urgent does not wait until others were answered.
        """
        line = msgspec.json.encode({**(given or {}), **fields, "verb": verb}) + b"\n"
        try:
            async with asyncio.timeout(timeout_s), nullcontext() if is_urgent else self._free:
                received = await self._exchange(line)
        except TimeoutError as error:
            raise NoDaemonError(
                "silent",
                f"the daemon did not answer {verb!r}",
                why=f"nothing came within {timeout_s:g} s",
                remedy="Look whether it was done before you try again; it may still be at work",
                transient=True,
            ) from error
        except (OSError, ValueError) as error:
            raise NoDaemonError(
                "unreachable",
                f"the daemon could not be asked for {verb!r}",
                why=f"its socket does not answer ({error})",
                remedy="Wait a few seconds; if it stays so, call whoever looks after the box",
                transient=True,
            ) from error
        return _checked(received, verb)

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_REPLY)
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()


async def start_session(daemon: Daemon, wish: Scan) -> dict[str, Any]:
    """Over whichever door it was asked for."""
    return await daemon.ask("session", timeout_s=LONG_S, do="start", **given(wish))


def given(data: msgspec.Struct) -> dict[str, Any]:
    """What a request says, without what it leaves open."""
    fields: dict[str, Any] = msgspec.to_builtins(data)
    return {key: value for key, value in fields.items() if value is not None}


def _checked(received: bytes, verb: str) -> dict[str, Any]:
    try:
        reply = msgspec.json.decode(received, type=dict[str, Any])
        if reply.pop("ok", False):
            return reply
        refused = from_dict(reply["error"])
    except (*GARBLED, KeyError, TypeError) as error:
        raise NoDaemonError(
            "garbled",
            f"the daemon did not answer {verb!r} as it should",
            why="its reply is neither a result nor an error",
            remedy="Try again; look at its log if it stays so",
            transient=True,
        ) from error
    raise refused
