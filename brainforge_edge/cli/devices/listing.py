"""Looks, asks the daemon how the devices stand, and makes one list of it. Runs in: the CLI process."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from brainforge_edge.cli.client import request, socket_path
from brainforge_edge.cli.devices import table
from brainforge_edge.cli.devices.watch import Watch
from brainforge_edge.cli.output import is_terminal, print_json
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import load
from brainforge_edge.core.errors import BrainforgeError, NoDaemonError, from_dict
from brainforge_edge.daemon import network
from brainforge_edge.devices.discover import Search, look
from brainforge_edge.devices.network import parse
from brainforge_edge.devices.sighting import Configured, Sighting, settle
from brainforge_edge.fleet.registry import read_devices


class Round(NamedTuple):
    """One look."""

    rows: list[Sighting]
    troubles: list[BrainforgeError]
    hidden: int  # Bluetooth devices of no known kind


class Box(NamedTuple):
    """What is configured and known; with a daemon that runs also how it stands."""

    configured: list[Configured]
    known: list[dict[str, Any]]
    runs: bool  # or may run: what it has is let alone
    troubles: list[BrainforgeError]
    is_mute: bool = False  # it is there and does not say what it has


class Listing:
    """One search, once or again and again."""

    def __init__(
        self,
        *,
        config: Path | None,
        run_folder: Path | None,
        seconds: float,
        links: tuple[str, ...],
        addresses: tuple[str, ...],
        probe: bool,
        shows_all: bool,
    ) -> None:
        self._edge = load(config) if config is not None else None
        self._socket = socket_path(config, run_folder)
        if run_folder is not None and not os.path.isdir(run_folder):  # noqa: PTH112  raises nothing
            request(self._socket, "devices")  # says why not, as for every other verb
        for address in addresses:
            parse(address, remedy="Correct the address given with --at")
        self._addresses = addresses
        self._seconds = seconds
        self._links = links
        self._probe = probe
        self._shows_all = shows_all
        self._clock = SystemClock()

    def show(self, *, as_json: bool) -> None:
        with self._told_liblsl():
            found = self._round()
        if as_json:
            print_json(_as_json(found))
        else:
            table.show(found.rows, found.troubles, found.hidden, self._clock.utc_ns())

    def watch(self, *, as_json: bool) -> None:
        """Until Ctrl-C."""
        watch = Watch()
        is_live = is_terminal() and not as_json
        with self._told_liblsl(), table.screen(is_live=is_live) as screen:
            while True:
                until = time.monotonic() + self._seconds
                found = self._round()
                marked = watch.take(found.rows, time.monotonic())
                if as_json:
                    news = [{"mark": mark, **msgspec.to_builtins(row)} for mark, row in marked]
                    print_json(_as_json(found) | {"devices": news})
                else:
                    screen.show(marked, found.troubles, found.hidden, self._clock.utc_ns())
                # Serial ports and known addresses are looked through at once.
                self._clock.sleep(until - time.monotonic())

    def _round(self) -> Round:
        box = self._box()
        ports = tuple(one.port for one in box.configured if one.port)
        network_ports = tuple(port for port in ports if "://" in port)
        found = look(
            Search(
                seconds=self._seconds,
                links=self._links,
                addresses=(*self._addresses, *network_ports),
                probe=self._probe and not box.is_mute,
                in_use=frozenset(ports) if box.runs else frozenset(),
                run=self._socket.parent if box.runs else None,
            ),
            clock=self._clock,
        )
        box = self._box()  # what it said before the look is seconds old
        seen = [s for s in found.sightings if self._shows_all or s.kind or s.link != "ble"]
        # That a configured device does not answer is told in its row.
        told = set(network_ports) - set(self._addresses)
        troubles = [t for t in found.troubles if t.facts.get("port") not in told]
        rows = settle(seen, box.configured, box.known, utc_ns=self._clock.utc_ns())
        return Round(rows, [*box.troubles, *troubles], len(found.sightings) - len(seen))

    def _box(self) -> Box:
        try:
            reply = request(self._socket, "devices")
        except NoDaemonError as error:
            return self._without_daemon([] if error.code == "daemon.not_running" else [error])
        configured = msgspec.convert(reply["configured"], list[Configured])
        refused = reply.get("error")
        return Box(
            configured, reply["known"], runs=True, troubles=[from_dict(refused)] if refused else []
        )

    def _without_daemon(self, troubles: list[BrainforgeError]) -> Box:
        edge = self._edge
        is_mute = bool(troubles)
        if edge is None:
            return Box([], [], runs=is_mute, troubles=troubles, is_mute=is_mute)
        known: list[dict[str, Any]] = []
        try:
            known = read_devices(Path(edge.node.root))
        except BrainforgeError as error:
            troubles.append(error)
        bound = {row["name"]: row["identity"] for row in known if row["pairing"] == "bound"}
        configured = [
            Configured(
                name=device.name,
                kind=device.kind,
                settings=device.settings,
                bound=bound.get(device.name, ""),
            )
            for device in edge.device
        ]
        return Box(configured, known, runs=is_mute, troubles=troubles, is_mute=is_mute)

    @contextmanager
    def _told_liblsl(self) -> Iterator[None]:
        """liblsl reads its configuration once: the daemon's own if it is there, else the same text."""
        written = self._socket.parent / network.FILE
        if "LSLAPICFG" in os.environ:
            yield
        elif os.access(written, os.R_OK):
            os.environ["LSLAPICFG"] = str(written)
            yield
        elif self._edge is None:
            yield  # `devices.lsl` keeps to this machine
        else:
            with _folder() as folder:
                network.tell_liblsl(self._edge.lsl, folder)
                yield


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="brainforge-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_json(found: Round) -> dict[str, Any]:
    return {
        "ok": True,
        "devices": [msgspec.to_builtins(row) for row in found.rows],
        "hidden": found.hidden,
        "troubles": [trouble.as_dict() for trouble in found.troubles],
    }
