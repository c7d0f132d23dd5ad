"""Lab Streaming Layer: any stream as a device, discovery, and outlets. The only door to pylsl.

Protocol: liblsl 1.17.7 or newer (github.com/sccn/liblsl). Quirks: an inlet that recovers by itself
hides the loss, so ours do not; an inlet must be destroyed before its outlet; liblsl reads its
configuration once, from the file that LSLAPICFG names (`core/lsl.py` makes its text).
`local_clock()` is CLOCK_MONOTONIC. There is no authentication and no encryption (docs/lsl.md).
Runs in: acquire process, pull thread; the lsl worker; emulators. pylsl is imported on use.
"""

import functools
import os
import threading
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.lsl import network_settings
from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.devices.lsl_driver import Config, Found, Inlet, LslDriver

__all__ = ["Config", "Found", "Outlet", "OutletPlan", "discover", "make_driver"]

FORMATS = ("undefined", "float32", "double64", "string", "int32", "int16", "int8", "int64")
INLET_S = 360  # rows that wait in liblsl while the box stalls
OUTLET_S = 10  # … and in an outlet for a viewer that stalls; RAM, so not LSL's 360 s
ANSWER_S = 3.0


def make_driver(config: Config, *, device: str, clock: Clock) -> LslDriver:
    if not (config.stream or config.type or config.source_id):
        raise ConfigError(
            "invalid",
            f"{device} names no LSL stream",
            why="neither `stream`, `type` nor `source_id` is set",
            remedy="Set one of them in the device's settings",
        )
    return LslDriver(
        config, device=device, clock=clock, open_inlet=lambda: open_inlet(config, device)
    )


@functools.cache
def _pylsl() -> ModuleType:
    try:
        import pylsl  # noqa: PLC0415  loads liblsl, on use only

        if "LSLAPICFG" not in os.environ:  # who has not been told otherwise keeps to this machine
            pylsl.set_config_content(network_settings())
    except (ImportError, RuntimeError, OSError) as error:  # NotImplementedError: liblsl < 1.17.7
        raise DeviceError(
            "lsl_library",
            "LSL cannot be used",
            why=f"pylsl or its liblsl does not load ({error})"[:300],
            remedy="Install pylsl; on ARM also liblsl 1.17.7 or newer, and name it in the environment variable "
            "PYLSL_LIB",
        ) from error
    module: ModuleType = pylsl
    return module


def discover(timeout_s: float = 1.0) -> list[dict[str, Any]]:
    """Every stream that answers within `timeout_s`, sorted by name. DeviceError without liblsl.

    Keys: name, type, source_id, uid, hostname, channels, rate (Hz, 0 for irregular), format.
    """
    found = sorted(_found(info) for info in _answers(timeout_s))
    return [
        {
            "name": one.name,
            "type": one.type,
            "source_id": one.source_id,
            "uid": one.uid,
            "hostname": one.hostname,
            "channels": one.n_channels,
            "rate": one.sfreq,
            "format": one.format,
        }
        for one in found
    ]


def open_inlet(config: Config, device: str) -> Inlet:
    """Find the one stream that `config` names and subscribe. DeviceError (transient) if none, or two."""
    infos = _answers(config.resolve_s)
    matching = [info for info in infos if _matches(_found(info), config)]
    if len(matching) == 1:
        return _PylslInlet(matching[0], device)
    wanted = ", ".join(
        f"{key} {value!r}"
        for key, value in (
            ("name", config.stream), ("type", config.type), ("source_id", config.source_id)
        )
        if value
    )  # fmt: skip
    if not matching:
        there = ", ".join(sorted({repr(info.name()) for info in infos})[:8]) or "no stream at all"
        raise DeviceError(
            "lsl_not_found",
            f"the LSL stream of {device} ({wanted}) is not there",
            why=f"seen within {config.resolve_s:g} s: {there}",
            remedy="Start its program; if it runs on another machine, widen [lsl] scope",
            transient=True,
        )
    twins = ", ".join(f"{f.source_id!r} at {f.hostname}" for f in map(_found, matching[:8]))
    raise DeviceError(
        "lsl_ambiguous",
        f"the LSL stream of {device} ({wanted}) is not one",
        why=f"{len(matching)} answer: source_id {twins}",
        remedy="Set `source_id`, or end the program that should not send",
        transient=True,
    )


def _answers(timeout_s: float) -> list[Any]:
    """Who answers within this time: all of it, for a second stream of one name may come last.

    The resolver that liblsl runs in the background, since its one-shot one often takes 5 s more
    than it was given where nothing answers (seen with 1.18).
    """
    resolver = _pylsl().ContinuousResolver()
    time.sleep(timeout_s)
    infos: list[Any] = resolver.results()
    return infos


def _matches(found: Found, config: Config) -> bool:
    pairs = (
        (config.stream, found.name),
        (config.type, found.type),
        (config.source_id, found.source_id),
    )
    return all(value in {"", seen} for value, seen in pairs)


def _found(info: Any) -> Found:
    code = info.channel_format()
    return Found(
        name=info.name(),
        type=info.type(),
        source_id=info.source_id(),
        uid=info.uid(),
        hostname=info.hostname(),
        n_channels=info.channel_count(),
        sfreq=info.nominal_srate(),
        format=FORMATS[code] if 0 <= code < len(FORMATS) else "undefined",
    )


class _PylslInlet:
    """`lsl_driver.Inlet` on liblsl. One thread pulls; the lock keeps `close` out of a running call."""

    def __init__(self, info: Any, device: str) -> None:
        self._lib = _pylsl()
        self._device = device
        self.found = _found(info)
        self._lock = threading.Lock()
        self._inlet = self._lib.StreamInlet(info, max_buflen=INLET_S, recover=False)

    def subscribe(self) -> None:
        self._call("open_stream", timeout=ANSWER_S)

    def description(self) -> str:
        xml: str = self._call("info", timeout=ANSWER_S).as_xml()
        return xml

    def correction(self) -> float:
        return float(self._call("time_correction", timeout=ANSWER_S))

    def pull(self, timeout_s: float, most: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        data, stamps = self._call("pull_chunk", timeout=timeout_s, max_samples=most, as_numpy=True)
        return (data.astype(np.int16) if data.dtype == np.int8 else data), stamps

    def texts(self, timeout_s: float, most: int) -> tuple[list[list[str]], list[float]]:
        rows, stamps = self._call("pull_chunk", timeout=timeout_s, max_samples=most, as_numpy=True)
        return [[v.decode("utf-8", "replace") for v in row] for row in rows], stamps.tolist()

    def close(self) -> None:
        with self._lock:
            self._inlet = None

    def _call(self, name: str, **arguments: Any) -> Any:
        with self._lock:
            inlet = self._inlet
            if inlet is None:
                raise DeviceError(
                    "closed",
                    f"{self._device} is not connected",
                    why="it was closed",
                    remedy="Wait until it is connected",
                    transient=True,
                )
            try:
                return getattr(inlet, name)(**arguments)
            except self._lib.util.TimeoutError as error:
                why, cause = f"no answer within {arguments['timeout']:g} s", error
            except RuntimeError as error:  # LostError and what liblsl calls an internal error
                why, cause = str(error).rstrip("."), error
            self._inlet = None  # before its outlet, and never used again
        raise DeviceError(
            "lsl_lost",
            f"the LSL stream {self.found.name!r} of {self._device} is gone",
            why=why,
            remedy="See to its program and the network; the box looks for it by itself",
            transient=True,
        ) from cause


class OutletPlan(NamedTuple):
    """What an outlet says of itself."""

    name: str
    type: str
    source_id: str
    sfreq: float  # 0: irregular
    format: str  # of FORMATS
    channels: Sequence[ChannelInfo]  # unit as sent
    is_emulated: bool = False


class Outlet:
    """A stream that others can subscribe to, for as long as this lives."""

    def __init__(self, plan: OutletPlan) -> None:
        lib = _pylsl()
        info = lib.StreamInfo(
            plan.name, plan.type, len(plan.channels), plan.sfreq, plan.format, plan.source_id
        )
        desc = info.desc()
        desc.append_child_value("manufacturer", "brainforge-edge")
        acquisition = desc.append_child("acquisition")
        acquisition.append_child_value("manufacturer", "brainforge-edge")
        if plan.is_emulated:
            acquisition.append_child_value("emulated", "1")
        channels = desc.append_child("channels")
        for channel in plan.channels:
            element = channels.append_child("channel")
            element.append_child_value("label", channel.name)
            element.append_child_value("unit", channel.unit)
            element.append_child_value("type", channel.type.upper())
        self.plan = plan
        self._outlet = lib.StreamOutlet(info, max_buffered=OUTLET_S)

    @property
    def has_consumers(self) -> bool:
        return bool(self._outlet.have_consumers())

    def push(self, rows: NDArray[Any], t_last_ns: int) -> None:
        """Rows (n, n_channels) in the plan's format; `t_last_ns` (box clock) is the last one's."""
        self._outlet.push_chunk(rows, t_last_ns / 1e9)

    def push_text(self, text: str, t_ns: int) -> None:
        self._outlet.push_sample([text], t_ns / 1e9)

    def close(self) -> None:
        """Connected inlets lose the stream."""
        del self._outlet
