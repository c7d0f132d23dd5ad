"""`edge.toml` into frozen structs; unknown keys are refused with their path."""

import math
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import inspect

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.ids import checked_name

T = TypeVar("T")

DEFAULT_ROOT = "/var/lib/brainforge"
DEFAULT_RUN = "/run/brainforge"
SOCKET_NAME = "control.sock"  # in the run folder
_MOST_SOCKET_BYTES = 107  # sun_path of unix(7) has 108, the last one is 0


# How msgspec words its errors; one that it words otherwise is told as it says it.
_NOT_ALLOWED = re.compile(r"Invalid enum value (.*) - at `\$\.?([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`(?: - at `\$\.?([^`]*)`)?")
_PEER = re.compile(r"[A-Za-z0-9._:-]{1,255}")  # goes into liblsl's own configuration file


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class NodeConfig(_Section, frozen=True):
    id: str
    root: str = DEFAULT_ROOT  # recordings, databases
    run: str = DEFAULT_RUN  # rings, sockets: a tmpfs


class RecordingConfig(_Section, frozen=True):
    auto_record: bool = False  # open a recording as soon as a device streams
    cut_s: float = 6 * 3600.0  # … and cut it after this long
    preroll_s: float = 0.0  # rows adopted from the ring when a recording starts, at most 60
    sync_ms: int = 80  # raise for worn flash: at most this much is unacknowledged at a power cut
    segment_mib: int = 32
    journal_s: float = 60.0  # each of the two journal files holds this much


class PipelineConfig(_Section, frozen=True):
    enabled: bool = True
    l_freq: float = 1.0
    h_freq: float = 100.0
    notch: float = 50.0  # mains, Hz; 0 for none
    live_hz: float = 25.0  # messages a second
    live_sfreq: float = 250.0  # filtered rows are decimated to about this rate


class UplinkConfig(_Section, frozen=True):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 1883
    window_chunks: int = 64
    window_bytes: int = 8 * 1024 * 1024
    backfill_bytes_s: float = 0.0  # rate cap of the backfill lane, 0 for none
    keepalive_s: int = 8
    protocol: int = 5  # 5 is tried first and 3.1.1 accepted; 4 skips the try


class LslConfig(_Section, frozen=True):
    """Lab Streaming Layer: no authentication, no encryption; docs/lsl.md."""

    outlets: bool | tuple[str, ...] = False  # ids of the streams to offer, or true for all
    markers: bool = True  # with outlets, also one for the box's markers
    scope: Literal["machine", "link", "site", "organization", "global"] = "machine"
    session: str = "default"  # only outlets of the same LSL session are seen
    peers: tuple[str, ...] = ()  # machines to be asked by name, where multicast does not reach
    remote: bool = False  # remote control as LabRecorder has it
    remote_host: str = "127.0.0.1"
    remote_port: int = 22_345

    @property
    def has_worker(self) -> bool:
        return bool(self.outlets) or self.remote


class DeviceConfig(_Section, frozen=True):
    """One `[[device]]`: name and kind here, everything else belongs to the driver's own `Config`."""

    name: str
    kind: str
    subject: str = ""  # pseudonym of who wears it, where several participants are recorded at once
    settings: dict[str, Any] = {}


class EdgeConfig(_Section, frozen=True):
    node: NodeConfig
    recording: RecordingConfig = RecordingConfig()
    pipeline: PipelineConfig = PipelineConfig()
    uplink: UplinkConfig = UplinkConfig()
    lsl: LslConfig = LslConfig()
    device: tuple[DeviceConfig, ...] = ()


def load(path: Path) -> EdgeConfig:
    """Read and check a configuration file; ConfigError names the key and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            "missing",
            f"cannot read the configuration {path}",
            why="there is no such file",
            remedy="Name a file that is there, or write one: brainforge_edge/docs/operator.md has an example",
        ) from error
    except OSError as error:
        raise ConfigError(
            "unreadable",
            f"cannot read the configuration {path}",
            why=str(error.strerror).lower(),
            remedy="Name a file that this user may read",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            "syntax",
            f"{path} is not a configuration",
            why="it is not UTF-8 text",
            remedy="Save the file as UTF-8",
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str = "configuration") -> EdgeConfig:
    """Check TOML text; see `load`."""
    try:
        table = tomllib.loads(text)
        unusable = list(_unusable(table, "$"))
    except ValueError as error:  # its own, or Python's for a number of thousands of digits
        raise ConfigError(
            "syntax",
            f"{source} is not valid TOML",
            why=str(error),
            remedy="Correct the line that is named",
        ) from error
    except RecursionError as error:
        raise ConfigError(
            "syntax",
            f"{source} is not valid TOML",
            why="its brackets or keys are nested too deeply",
            remedy="Correct that line",
        ) from error
    for path, why in unusable:
        raise _wrong(source, f"{path} {why}")
    config = convert(table, EdgeConfig, source)
    _check(config, source)
    return config


def convert(value: object, to: type[T], source: str) -> T:
    """`msgspec.convert` with its error as a ConfigError that keeps the path."""
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise _refused(str(error), to, source) from error


def wrong_setting(device: str, why: str, key: str, *, code: str = "invalid") -> ConfigError:
    """The error for what a driver's `Config` cannot judge by a type alone."""
    return ConfigError(
        code,
        f"{device} has a wrong setting",
        why=why,
        remedy=f"Correct `{key}` in the device's settings",
    )


def check_serial_port(port: str, device: str) -> None:
    """ConfigError for an address, of a kind that only serial ports lead to."""
    if "://" in port:
        why = f"port is {port}, and devices of this kind are on a serial port, never on the network"
        raise wrong_setting(device, why, "port")


def check_names(names: Sequence[str], counts: Collection[int], device: str) -> None:
    """ConfigError unless `ch_names` are left out, or are as many as there are channels, all different."""
    if not names:
        return
    if len(names) not in counts:
        wanted = " or ".join(map(str, counts))
        why = f"ch_names has {len(names)} names, the board has {wanted} channels"
        raise wrong_setting(device, why, "ch_names")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise wrong_setting(device, f"ch_names has {twice!r} more than once", "ch_names")


def _refused(said: str, to: object, source: str) -> ConfigError:
    """What msgspec says, with what it leaves out: which values there are, where a key belongs."""
    if found := _NOT_ALLOWED.fullmatch(said):
        value, path = found.groups()
        steps = re.findall(r"\[[^]]*\]|[^.[]+", path)
        if allowed := _allowed(inspect.type_info(to), steps):
            listed = ", ".join(map(repr, allowed))
            return _wrong(source, f"{path} is {value}, allowed are {listed}", "Choose one of those")
    if found := _MISSING.fullmatch(said):
        key, path = found.groups()
        where = f"{path} of {source}" if path else source
        return ConfigError(
            "invalid",
            f"{source} is not complete",
            why=f"`{key}` is missing",
            remedy=f"Write `{key}` into {where}; brainforge_edge/docs/operator.md lists every key",
        )
    return _wrong(source, said)


def _allowed(kind: inspect.Type, steps: Sequence[str]) -> tuple[object, ...]:
    """The values of the `Literal` that the path leads to."""
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, (_allowed(each, steps) for each in kind.types)), ())
    if isinstance(kind, inspect.LiteralType) and not steps:
        return kind.values
    if isinstance(kind, inspect.StructType) and steps:
        fields = {field.encode_name: field.type for field in kind.fields}
        return _allowed(fields[steps[0]], steps[1:]) if steps[0] in fields else ()
    return _allowed(kind.item_type, steps[1:]) if isinstance(kind, inspect.VarTupleType) else ()


def _wrong(
    source: str,
    why: str,
    remedy: str = "Correct or delete that entry; brainforge_edge/docs/operator.md lists every key",
    *,
    code: str = "invalid",
) -> ConfigError:
    return ConfigError(code, f"{source} has a wrong entry", why=why, remedy=remedy)


def _unusable(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Values of the right type that no key can mean, each with its path and what is wrong."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unusable(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _unusable(inner, f"{path}[...]")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, "has more than 64 bits"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"is {value:g}, which is no number to count with"
    elif isinstance(value, str) and "\0" in value:
        yield path, "holds a zero byte, which no path or name can"


def _check(config: EdgeConfig, source: str) -> None:
    checked_name(config.node.id, "the node id")
    _check_folders(config.node, source)
    host = config.uplink.host
    if not host or not host.isprintable() or " " in host:
        raise _wrong(source, f"uplink.host is {host!r}", "Give the name or address of the broker")
    _check_devices(config.device, source)
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
    )
    for key, value, least, most in limits:
        if not least <= value <= most:
            raise _wrong(
                source,
                f"{key} is {value:g}, allowed are {least:g} to {most:g}",
                "Correct that entry",
                code="out_of_range",
            )


def _check_folders(node: NodeConfig, source: str) -> None:
    for key, folder in (("node.root", node.root), ("node.run", node.run)):
        if not folder:
            raise _wrong(source, f"{key} is empty", "Name a folder, or delete that entry")
    size = len(os.fsencode(Path(node.run) / SOCKET_NAME))
    if size > _MOST_SOCKET_BYTES:
        raise _wrong(
            source,
            f"node.run is too long: its {SOCKET_NAME} has a path of {size} bytes, "
            f"a socket's has at most {_MOST_SOCKET_BYTES}",
            "Choose a run folder with a short path",
            code="path_too_long",
        )


def _check_devices(devices: tuple[DeviceConfig, ...], source: str) -> None:
    names: set[str] = set()
    ports: dict[str, str] = {}  # where a port leads → the device that has it
    identities: dict[tuple[str, ...], str] = {}
    for device in devices:
        checked_name(device.name, "the device name")
        if device.name in names:
            raise _wrong(
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
            raise _wrong(
                source,
                f"the devices {other!r} and {device.name!r} have the same port {port}",
                "Give every device a port of its own",
                code="shared_port",
            )


def _check_identity(
    device: DeviceConfig, identities: dict[tuple[str, ...], str], source: str
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
            raise _wrong(
                source,
                f"the devices {other!r} and {device.name!r} have the same {key} {value}",
                "Give every device an identity of its own",
                code="shared_identity",
            )
