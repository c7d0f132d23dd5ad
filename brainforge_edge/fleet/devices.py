"""The registry's side of the control plane: who answered, who is bound, what a person changes.

Runs in: agent process, main thread. A database that cannot be used costs the memory of devices, never
a recording: acquisition goes on with what the supervisor knows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError, ConfigError, StorageError
from brainforge_edge.fleet.registry import Registry


class Devices:
    """`send` goes to the supervisor."""

    def __init__(self, root: Path, *, clock: Clock, send: Callable[[ipc.Message], None]) -> None:
        self._root = root
        self._clock = clock
        self._send = send
        self._open: Registry | None = None

    def report(self) -> None:
        """Say who is bound; nothing if that cannot be read."""
        try:
            self._send(ipc.Bound(bound=self._registry().bound()))
        except StorageError as error:
            self._send(ipc.Fault(error=error.as_dict()))

    def answered(self, message: ipc.Answered) -> None:
        try:
            self._registry().answered(
                identity=message.identity,
                kind=message.kind,
                link=message.link,
                name=message.device,
                info=message.info,
                binds=message.binds,
                is_refused=message.is_refused,
                utc_ns=self._clock.utc_ns(),
            )
        except StorageError as error:
            self._send(ipc.Fault(error=error.as_dict()))

    def command(self, message: ipc.Command) -> None:
        """`list`, `bind`, `forget`, `alias`."""
        values: dict[str, Any] = {}
        error = None
        try:
            values = self._done(message.name, message.arguments)
        except BrainforgeError as refused:
            error = refused.as_dict()
        self._send(ipc.CommandDone(token=message.token, values=values, error=error))

    def close(self) -> None:
        if self._open is not None:
            self._open.close()

    def _done(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        registry = self._registry()
        match name:
            case "list":
                return {"known": msgspec.to_builtins(registry.devices())}
            case "bind":
                identity, before = registry.bind(
                    given["device"], given["identity"], kind=given["kind"], link=given["link"]
                )
                return {"identity": identity, "before": before}
            case "forget":
                return {"forgotten": msgspec.to_builtins(registry.forget(given["who"]))}
            case "alias":
                return {"identity": registry.alias(given["who"], given["alias"])}
        raise ConfigError(
            "bad_argument",
            "the request was refused",
            why=f"the registry knows no {name!r}",
            remedy="Use the brainforge-edge command of the daemon's own version",
        )

    def _registry(self) -> Registry:
        if self._open is None:  # tried again each time: a disk may have been full
            self._open = Registry(self._root)
        return self._open
