"""Values of `edge.toml` that a type alone cannot judge. Runs in: any process; no I/O."""

import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.httpaddress import http_address
from brainforge_edge.core.ids import checked_name
from brainforge_edge.core.liveconfig import check_streams

if TYPE_CHECKING:
    from brainforge_edge.core.config import (
        DeviceConfig,
        EdgeConfig,
        NodeConfig,
        TlsConfig,
        WebConfig,
    )

_MOST_SOCKET_BYTES = 107  # sun_path of unix(7) has 108, the last one is 0
_PEER = re.compile(r"[A-Za-z0-9._:-]{1,255}")  # goes into liblsl's own configuration file


def check(config: "EdgeConfig", source: str, *, socket_name: str) -> None:
    """ConfigError for the first value that its type alone cannot judge."""
    checked_name(config.node.id, "the node id")
    _check_folders(config.node, source, socket_name)
    host = config.uplink.host
    if not host or not host.isprintable() or " " in host:
        raise wrong_entry(
            source, f"uplink.host is {host!r}", "Give the name or address of the broker"
        )
    _check_tls(config.uplink.tls, source)
    if config.retention.enabled and not config.uplink.signer:
        raise wrong_entry(
            source,
            "retention.enabled is set without uplink.signer: nothing could prove what may be freed",
            "Name the file of the aggregator's public key with uplink.signer, or switch retention off",
        )
    _check_web(config.web, source)
    _check_devices(config.device, source)
    check_streams(config.pipeline.stream, source)
    for word in (config.lsl.session, *config.lsl.peers):
        if not _PEER.fullmatch(word):
            raise ConfigError(
                "invalid",
                f"{source} has a wrong entry",
                why=f"{word!r} in [lsl] is neither a host nor a session name",
                remedy="Use letters, digits and . : - _ only",
            )
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("recording.preroll_s", config.recording.preroll_s, 0, 60),
        ("recording.sync_ms", config.recording.sync_ms, 10, 10_000),
        ("recording.segment_mib", config.recording.segment_mib, 16, 64),
        ("recording.journal_s", config.recording.journal_s, 10, 600),
        ("recording.cut_s", config.recording.cut_s, 10, 86_400),
        ("disk.reserve_mib", config.disk.reserve_mib, 16, 65_536),
        ("disk.alarm_percent", config.disk.alarm_percent, 1, 99),
        ("disk.derived_percent", config.disk.derived_percent, config.disk.alarm_percent, 99),
        ("disk.refuse_percent", config.disk.refuse_percent, config.disk.derived_percent, 99),
        ("retention.keep_days", config.retention.keep_days, 0, 36_500),
        ("pipeline.live_hz", config.pipeline.live_hz, 1, 60),
        ("uplink.port", config.uplink.port, 1, 65_535),
        ("pipeline.live_sfreq", config.pipeline.live_sfreq, 1, 100_000),
        ("pipeline.l_freq", config.pipeline.l_freq, 0.01, 10_000),
        ("pipeline.h_freq", config.pipeline.h_freq, config.pipeline.l_freq, 100_000),
        ("pipeline.notch", config.pipeline.notch, 0, 1000),
        ("uplink.window_chunks", config.uplink.window_chunks, 1, 4096),
        ("uplink.window_bytes", config.uplink.window_bytes, 64 * 1024, 1024 * 1024 * 1024),
        ("uplink.backfill_bytes_s", config.uplink.backfill_bytes_s, 0, 1e12),
        ("uplink.keepalive_s", config.uplink.keepalive_s, 1, 3600),
        ("uplink.protocol", config.uplink.protocol, 4, 5),
        ("lsl.remote_port", config.lsl.remote_port, 1, 65_535),
        ("web.port", config.web.port, 1, 65_535),
        ("web.idle_s", config.web.idle_s, 10, 86_400),
    )
    for key, value, least, most in limits:
        if not least <= value <= most:
            raise wrong_entry(
                source,
                f"{key} is {value:g}, allowed are {least:g} to {most:g}",
                "Correct that entry",
                code="out_of_range",
            )


def _check_folders(node: "NodeConfig", source: str, socket_name: str) -> None:
    for key, folder in (("node.root", node.root), ("node.run", node.run)):
        if not folder:
            raise wrong_entry(source, f"{key} is empty", "Name a folder, or delete that entry")
    size = len(os.fsencode(Path(node.run) / socket_name))
    if size > _MOST_SOCKET_BYTES:
        raise wrong_entry(
            source,
            f"node.run is too long: its {socket_name} has a path of {size} bytes, "
            f"a socket's has at most {_MOST_SOCKET_BYTES}",
            "Choose a run folder with a short path",
            code="path_too_long",
        )


def _check_tls(tls: "TlsConfig", source: str) -> None:
    """Whether the files are there is asked by `config check` and by each connection: they come and go."""
    named = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
    for key, path in named.items():
        if (any(named.values()) or tls.enrol or tls.crl) and not path:
            raise wrong_entry(
                source, f"uplink.tls.{key} is missing", "Name all three files of it, or none"
            )
    if tls.enrol and http_address(tls.enrol) is None:
        raise wrong_entry(
            source,
            f"uplink.tls.enrol is {tls.enrol!r}",
            "Give the authority's address as http://HOST:PORT or https://HOST:PORT",
        )


def _check_web(web: "WebConfig", source: str) -> None:
    """Whoever reaches the page may stop a recording: others than this machine's own log in."""
    try:
        address = ipaddress.ip_address(web.host)
    except ValueError as error:
        why = f"web.host is {web.host!r}, which is no address"
        raise wrong_entry(source, why, "Write 127.0.0.1, ::1 or an address of the box") from error
    files = {"certificate": web.certificate, "key": web.key, "logins": web.logins}
    for key, path in files.items():
        if path:
            continue
        if any(files.values()):
            raise wrong_entry(
                source, f"web.{key} is missing", "Name certificate, key and logins, or none"
            )
        if not address.is_loopback:
            raise wrong_entry(
                source,
                f"web.host is {web.host}, which others reach, and web.{key} is missing",
                "Name certificate, key and logins, or write 127.0.0.1 for this machine alone",
            )
    if address.is_unspecified and not web.names:
        raise wrong_entry(
            source,
            f"web.host is {web.host} and web.names is empty: the page would answer to no name",
            "Name in web.names what browsers call the box by",
        )
    for name in web.names:
        if not _PEER.fullmatch(name):
            raise wrong_entry(source, f"web.names has {name!r}", "Give names or addresses")


def _check_devices(devices: "tuple[DeviceConfig, ...]", source: str) -> None:
    names: set[str] = set()
    ports: dict[str, str] = {}  # where a port leads → the device that has it
    identities: dict[tuple[str, ...], str] = {}
    for device in devices:
        checked_name(device.name, "the device name")
        if device.name in names:
            raise wrong_entry(
                source,
                f"two devices are called {device.name!r}",
                "Give every device a name of its own",
            )
        names.add(device.name)
        _check_identity(device, identities, source)
        if device.subject:
            checked_name(device.subject, "the subject")
        port = device.settings.get("port")
        if not isinstance(port, str) or not port:
            continue  # the driver's own Config judges it
        other = ports.setdefault(os.path.realpath(port), device.name)
        if other != device.name:
            raise wrong_entry(
                source,
                f"the devices {other!r} and {device.name!r} have the same port {port}",
                "Give every device a port of its own",
                code="shared_port",
            )


def _check_identity(
    device: "DeviceConfig", identities: dict[tuple[str, ...], str], source: str
) -> None:
    """Two names for one device: only one of them could ever be connected."""
    settings = device.settings
    for key in ("serial_number", "address", "source_id"):
        value = settings.get(key)
        if not isinstance(value, str) or not value:
            continue  # the driver's own Config judges it
        # A serial number is its maker's; one LSL program may send several streams.
        more = str(settings.get("stream", "")) + str(settings.get("type", ""))
        other = identities.setdefault((device.kind, key, value.lower(), more), device.name)
        if other != device.name:
            raise wrong_entry(
                source,
                f"the devices {other!r} and {device.name!r} have the same {key} {value}",
                "Give every device an identity of its own",
                code="shared_identity",
            )


def wrong_entry(
    source: str,
    why: str,
    remedy: str = "Correct or delete that entry; brainforge_edge/docs/operator.md lists every key",
    *,
    code: str = "invalid",
) -> ConfigError:
    """The error for one entry: why it is wrong, and what to do."""
    return ConfigError(code, f"{source} has a wrong entry", why=why, remedy=remedy)
