"""Which device may answer under which name. Nothing here waits for the agent, which remembers it.

Runs in: supervisor, its asyncio loop. A device that answers first under a configured name is that
name's; another one is refused by the acquire worker until a person binds it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.config import DeviceConfig
from brainforge_edge.core.errors import ConfigError, DeviceError, SessionError, from_dict
from brainforge_edge.core.events import EventType
from brainforge_edge.core.identity import is_named, is_proven, judge, taken
from brainforge_edge.daemon.arguments import text
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.commands import Commands

AGENT_S = 20.0  # an agent that was killed is back by then
_UNTOLD = 1000

_log = log.get()


class Bindings:
    """`told`: an event is to be passed on."""

    def __init__(
        self,
        devices: Iterable[DeviceConfig],
        *,
        agent: Child,
        acquirers: Callable[[], Iterable[Child]],
        commands: Commands,
        told: Callable[[Child, ipc.Event], Awaitable[None]],
    ) -> None:
        self._devices = {device.name: device for device in devices}
        self._agent = agent
        self._acquirers = acquirers
        self._commands = commands
        self._told = told
        self._stored: dict[str, str] | None = None  # as the agent said
        self._last: dict[str, ipc.Answered] = {}  # name → who is trusted under it
        self._untold: deque[ipc.Answered] = deque(maxlen=_UNTOLD)  # while the agent was down
        self.bound: dict[str, str] = {}  # of the devices that are configured

    async def greet(self, child: Child) -> None:
        """A worker is ready: what it did not hear yet."""
        if child is not self._agent:
            await child.send(ipc.Bound(bound=self.bound))
            return
        for name, message in self._last.items():
            if (self._stored or {}).get(name) != self.bound.get(name) == message.identity:
                # It may have died before it wrote that.
                self._untold.append(msgspec.structs.replace(message, binds=True))
        while self._untold and await child.send(self._untold[0]):
            self._untold.popleft()

    async def heard(self, child: Child, message: ipc.Answered | ipc.Bound) -> None:
        """Who answered, or at the agent's start who was bound when the box ran last."""
        if isinstance(message, ipc.Bound):
            is_first = self._stored is None
            self._stored = dict(message.bound)
            if is_first:  # later what is known here is newer
                self._recall(message.bound)
                await self._tell_all()
            return
        if message.binds:
            await self._bind_first(child, message)
        if self.bound.get(message.device) == message.identity:
            self._last[message.device] = message
        elif not message.is_refused:
            return  # it was refused just now, and comes back as such
        if not await self._agent.send(message):
            self._untold.append(message)

    def _recall(self, stored: dict[str, str]) -> None:
        """Who was bound when the box ran last. An agent that comes late finds some taken as they
        answered: it corrects them, but not where it had no proof or the settings say who is meant."""
        for name, identity in stored.items():
            is_stronger = is_proven(identity) and not self._is_named(name)
            if name in self._devices and (name not in self.bound or is_stronger):
                self.bound[name] = identity

    async def _bind_first(self, child: Child, message: ipc.Answered) -> None:
        name, identity = message.device, message.identity
        try:
            is_new = judge(name, identity, self.bound, is_named=self._is_named(name))
        except DeviceError:
            is_new = False  # the worker comes to the same end, and tells why
        if not is_new:
            await child.send(ipc.Bound(bound=self.bound))
            return
        before = self.bound.get(name, "")
        self.bound[name] = identity
        await self._tell_all()
        await self._tell(child, name, identity, before, "first to answer")

    async def verb_devices(self, _: dict[str, Any]) -> dict[str, Any]:
        """What is configured and how it stands; what the registry knows, if the agent answers."""
        known: list[dict[str, Any]] = []
        error = None
        try:
            known = (await self._ask("list", {}, wait_s=0.0))["known"]
        except DeviceError as silent:
            error = silent.as_dict()
        children = {child.name.partition(":")[2]: child for child in self._acquirers()}
        configured = [
            {
                "name": name,
                "kind": device.kind,
                "settings": {
                    key: value for key, value in device.settings.items() if isinstance(value, str)
                },
                "state": children[name].stats.get("link", "down"),
                "identity": children[name].stats.get("identity", ""),
                "status": children[name].stats.get("device") or {},
                "error": children[name].stats.get("error"),
                "bound": self.bound.get(name, ""),
            }
            for name, device in self._devices.items()
        ]
        return {"configured": configured, "known": known, "error": error}

    async def verb_bind(self, request: dict[str, Any]) -> dict[str, Any]:
        """`device`, and `identity` unless it is the one that answers now."""
        name, who = text(request, "device"), text(request, "identity")
        child = self._commands.child(name)
        who = who or self._answering(name, child.stats)
        for other, identity in self.bound.items():
            if other != name and identity == who and is_proven(who):
                raise taken(name, who, other)
        device = self._devices[name]
        values = await self._ask(
            "bind", {"device": name, "identity": who, "kind": device.kind, "link": ""}
        )
        identity = values["identity"]
        before = self.bound.get(name, "")
        self.bound[name] = identity
        self._last.pop(name, None)
        await self._tell_all()
        if before != identity:
            await self._tell(child, name, identity, before, "a person's word")
        return {"device": name, "identity": identity, "before": before}

    async def verb_forget(self, request: dict[str, Any]) -> dict[str, Any]:
        """`device`: a name, an identity, or an alias."""
        who = text(request, "device")
        values = await self._ask("forget", {"who": who})
        gone = {device["identity"] for device in values["forgotten"]}
        freed = [name for name, identity in self.bound.items() if identity in gone]
        for name in freed:
            del self.bound[name]
            self._last.pop(name, None)
        await self._tell_all()
        _log.info("device forgotten", identities=sorted(gone), names=freed)
        return {"forgotten": sorted(gone), "freed": freed}

    async def verb_alias(self, request: dict[str, Any]) -> dict[str, Any]:
        """`device`: an identity or an alias; `alias`: what it is called from now on."""
        alias = text(request, "alias")
        if len(alias) > 64 or not alias.isprintable():
            raise ConfigError(
                "bad_argument",
                "the request was refused",
                why="an alias is at most 64 printable characters",
                remedy="Choose another one",
            )
        values = await self._ask("alias", {"who": text(request, "device"), "alias": alias})
        return {"identity": values["identity"], "alias": alias}

    def _answering(self, name: str, stats: dict[str, Any]) -> str:
        error = stats.get("error") or {}
        if error.get("code") in {"device.identity_taken", "device.new_identity"}:
            facts = error["facts"]
            if "holder" in facts and self.bound.get(facts["holder"]) == facts["answered"]:
                raise from_dict(error)  # … unless it was freed since the device was refused
            return str(facts["answered"])
        if stats.get("identity") and stats.get("link") in {"streaming", "degraded"}:
            return str(stats["identity"])
        if error.get("code") == "device.wrong_device":
            raise from_dict(error)
        raise SessionError(
            "nothing_answers",
            f"nothing was bound to {name}",
            why="no device answers under that name now",
            remedy="Switch the device on and try again, or say which one with --identity",
        )

    def _is_named(self, name: str) -> bool:
        device = self._devices.get(name)
        return device is not None and is_named(device.settings)

    async def _ask(
        self, verb: str, given: dict[str, Any], *, wait_s: float | None = None
    ) -> dict[str, Any]:
        """Of the agent; while it is being started again it is waited for."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (AGENT_S if wait_s is None else wait_s)
        while not self._agent.ready and loop.time() < until:  # noqa: ASYNC110  another process
            await asyncio.sleep(0.1)
        answer = await self._commands.ask(self._agent, "the registry", verb, given, 10.0)
        if answer.error is not None:
            raise from_dict(answer.error)
        return answer.values

    async def _tell_all(self) -> None:
        for child in self._acquirers():
            await child.send(ipc.Bound(bound=self.bound))

    async def _tell(self, child: Child, name: str, identity: str, before: str, why: str) -> None:
        data = {"device": name, "identity": identity, "before": before, "basis": why}
        if not is_proven(identity):
            data["note"] = "it proves no identity: whatever answers at that place is taken"
        _log.info("device bound", **data)
        await self._told(child, ipc.Event(event_type=EventType.DEVICE_BOUND, data=data))
