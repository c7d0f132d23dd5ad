"""Commands for devices and the registry: from the control socket to a worker, and its answer back.

Runs in: supervisor, its asyncio loop.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from brainforge_edge.core import ipc, log
from brainforge_edge.core.errors import ConfigError, DeviceError, SessionError, from_dict
from brainforge_edge.daemon.arguments import mapping, number, text
from brainforge_edge.daemon.child import Child

_log = log.get()

TIMEOUT_S = 15.0
MOST_S = 900.0
UNAWAITED = 0  # token of a command whose answer nobody needs


class Commands:
    """The verbs `command` and `features`; `recording` names the open one, `marked` the devices that
    carry markers. Of `workers`, those of devices are called `acquire:NAME`."""

    def __init__(
        self,
        *,
        workers: Callable[[], Iterable[Child]],
        recording: Callable[[], str],
        marked: frozenset[str] = frozenset(),
    ) -> None:
        self._marked = marked
        self._workers = workers
        self._recording = recording
        self._waiting: dict[int, tuple[Child, asyncio.Future[ipc.CommandDone]]] = {}
        self._token = 0

    async def verb(self, request: dict[str, Any]) -> dict[str, Any]:
        """`device`, `command`, `arguments` {}, `timeout` s: `values` of the device's answer."""
        name = text(request, "device")
        arguments = mapping(request, "arguments")
        timeout_s = number(request, "timeout", TIMEOUT_S, most=MOST_S)
        child = self.child(name)
        answer = await self.ask(child, name, text(request, "command"), arguments, timeout_s)
        if answer.error is not None:
            raise from_dict(answer.error)
        return {"device": name, "values": answer.values}

    async def verb_features(self, request: dict[str, Any]) -> dict[str, Any]:
        """`stream` or "" for a line of each, `first`, `n` channels: the newest figures."""
        child = next((child for child in self._workers() if child.name == "pipeline"), None)
        if child is None:
            raise SessionError(
                "no_pipeline",
                "there are no features",
                why="the pipeline is switched off",
                remedy="Set pipeline.enabled in the configuration, and start the daemon again",
            )
        arguments = {
            "stream": text(request, "stream"),
            "first": int(number(request, "first", 0, most=1024)),
            "n": int(number(request, "n", 128, most=128)),
        }
        answer = await self.ask(child, "the pipeline", "features", arguments, TIMEOUT_S)
        if answer.error is not None:
            raise from_dict(answer.error)
        return answer.values

    async def mark(self, description: str) -> None:
        """A marker through the devices that carry them; what comes back is theirs to tell."""
        message = ipc.Command(token=UNAWAITED, name="mark", arguments={"description": description})
        for name, child in self._acquirers().items():
            if name in self._marked:
                await child.send(message)

    def heard(self, child: Child, message: ipc.CommandDone) -> None:
        """An answer; one that nobody waits for any more is left out."""
        if message.token == UNAWAITED and message.error is not None:
            _log.warning("mark not sent", worker=child.name, error=message.error)
        owner, future = self._waiting.get(message.token, (None, None))
        if owner is child and future is not None and not future.done():
            future.set_result(message)

    def child(self, name: str) -> Child:
        """The worker of a device; ConfigError `unknown_device`."""
        children = self._acquirers()
        if name not in children:
            raise ConfigError(
                "unknown_device",
                f"there is no device {name!r}",
                why=f"this box has {', '.join(sorted(children)) or 'none'}",
                remedy="Correct the name; it stands in the configuration",
            )
        return children[name]

    def _acquirers(self) -> dict[str, Child]:
        """Device → its worker."""
        named = ((child.name.partition(":"), child) for child in self._workers())
        return {device: child for (_, colon, device), child in named if colon}

    async def ask(
        self, child: Child, device: str, name: str, arguments: dict[str, Any], timeout_s: float
    ) -> ipc.CommandDone:
        """Its answer, or why it refuses; DeviceError `command_unanswered`. `device` is for sentences."""
        self._token += 1
        token = self._token
        future: asyncio.Future[ipc.CommandDone] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (child, future)
        message = ipc.Command(
            token=token, name=name, arguments=arguments, recording=self._recording()
        )
        try:
            if not await child.send(message):
                raise _not_done(
                    device, name, "its process is not there", "Try again in a few seconds"
                )
            pid = child.pid
            until = asyncio.get_running_loop().time() + timeout_s
            while not future.done():
                left = until - asyncio.get_running_loop().time()
                if left <= 0:
                    raise _not_done(
                        device,
                        name,
                        f"no answer came within {timeout_s:g} s",
                        "It may still be at work: see brainforge-edge status; allow more with --timeout",
                    )
                await asyncio.wait([future], timeout=min(left, 0.2))
                if not future.done() and child.pid != pid:
                    raise _not_done(
                        device, name, "its process ended meanwhile", "Try again in a few seconds"
                    )
            return future.result()
        finally:
            del self._waiting[token]


def _not_done(device: str, name: str, why: str, remedy: str) -> DeviceError:
    return DeviceError(
        "command_unanswered",
        f"{device} did not answer {name!r}",
        why=why,
        remedy=remedy,
        transient=True,
    )
