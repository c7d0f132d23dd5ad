"""What all Bluetooth devices have as settings, and the link that they ask for.

Runs in: acquire process, pull thread.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import wrong_setting
from brainforge_edge.core.stream import ChannelDetail, StreamInfo
from brainforge_edge.devices.gatt import GattLink, Target

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

SILENT_S = 2.0
_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600)]


class BleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The part of `[device.settings]` that every Bluetooth kind has."""

    address: str = ""  # of the device; "" takes the one that `name` says, or the only one
    name: str = ""  # as advertised: "Muse-1A2B"
    adapter: str = ""  # "hci1"; "" takes the system's
    # After half of it the device is told to start again, then it is lost.
    silent_s: Seconds = SILENT_S
    find_s: Seconds = 10.0
    latency_ms: float = 2.5  # by which even the quickest packet is late (docs/clock.md)
    group_delay_ms: float = 0.0  # of the device's own filters; 0: not known

    @property
    def latency_ns(self) -> int:
        return round(self.latency_ms * 1e6)


def delayed(info: StreamInfo, config: BleConfig) -> StreamInfo:
    """`info` with the group delay in each channel's description, where one is known."""
    if not config.group_delay_ms:
        return info
    detail = ChannelDetail(group_delay_us=config.group_delay_ms * 1000)
    channels = tuple(msgspec.structs.replace(each, detail=detail) for each in info.channels)
    return msgspec.structs.replace(info, channels=channels)


def make_link(
    config: BleConfig,
    target: Target,
    *,
    device: str,
    clock: Clock,
    run: Path | None,
    backend: "Backend | None",
) -> GattLink:
    """A link that is not open yet; ConfigError for an address that no device can have."""
    if config.address and not _ADDRESS.fullmatch(config.address):
        why = f"address is {config.address!r}, a Bluetooth address looks like 00:55:DA:B0:BF:01"
        raise wrong_setting(device, why, "address")
    from brainforge_edge.devices.ble import BleLink  # noqa: PLC0415  bleak on use

    return BleLink(
        target,
        clock=clock,
        run=run,
        adapter=config.adapter,
        find_s=config.find_s,
        backend=backend,
    )
