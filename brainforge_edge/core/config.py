"""`edge.toml` into frozen structs; unknown keys are refused with their path."""

import math
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import inspect

from brainforge_edge.core.configcheck import check, wrong_entry
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.liveconfig import LiveMode, StreamTable

T = TypeVar("T")

DEFAULT_ROOT = "/var/lib/brainforge"
DEFAULT_RUN = "/run/brainforge"
SOCKET_NAME = "control.sock"  # in the run folder


# How msgspec words its errors; one that it words otherwise is told as it says it.
_NOT_ALLOWED = re.compile(r"Invalid enum value (.*) - at `\$\.?([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`(?: - at `\$\.?([^`]*)`)?")


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


class DiskConfig(_Section, frozen=True):
    reserve_mib: int = 1024  # kept free for a clean close; a sixteenth of a small disk at most
    alarm_percent: float = 80.0  # full: an event
    derived_percent: float = 90.0  # … derived products are not made any more
    refuse_percent: float = 95.0  # … no new recording begins


class PipelineConfig(_Section, frozen=True):
    enabled: bool = True
    l_freq: float = 1.0
    h_freq: float = 100.0
    notch: float = 50.0  # mains, Hz; 0 for none
    live_hz: float = 25.0  # messages a second
    live_sfreq: float = 250.0  # filtered rows are decimated to about this rate
    live: LiveMode = "preview"  # what goes to `live/{stream}`
    features: bool = True  # band powers and the like of streams of a head; docs/signal.md
    stream: tuple[StreamTable, ...] = ()


class TlsConfig(_Section, frozen=True):
    """Files; docs/trust.md. Without any the broker is spoken to in the clear."""

    ca: str = ""  # certificate of the site's authority
    certificate: str = ""  # this node's
    key: str = ""
    enrol: str = ""  # http(s)://HOST:PORT of the authority: then the box renews by itself
    crl: str = (
        ""  # revocation list of the authority: then the broker's certificate must not be on it
    )

    @property
    def enabled(self) -> bool:
        return bool(self.ca)


class UplinkConfig(_Section, frozen=True):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 1883
    window_chunks: int = 64
    window_bytes: int = 8 * 1024 * 1024
    backfill_bytes_s: float = 0.0  # rate cap of the backfill lane, 0 for none
    keepalive_s: int = 8
    protocol: int = 5  # 5 is tried first and 3.1.1 accepted; 4 skips the try
    signer: str = ""  # file of the public key of the aggregator's signatures: then no others count
    tls: TlsConfig = TlsConfig()


class SealConfig(_Section, frozen=True):
    """Sealing of what is recorded; docs/sealing.md. The box's own pair lies in `keys` below its root."""

    enabled: bool = True
    aggregator: str = ""  # file of its public key: without one nothing sealed is sent
    recovery: str = ""  # file of the site's public key, whose private half is kept offline
    box: str = ""  # file of the box's own public key, where the private half is in a token or TPM
    token: str = ""  # … which one: a pkcs11: or tpm2: URI


class RetentionConfig(_Section, frozen=True):
    """When delivered data may go; docs/operator.md."""

    enabled: bool = False
    keep_days: float = (
        7.0  # after the aggregator signed for it; less once disk.alarm_percent is reached
    )


class OrderSigner(_Section, frozen=True):
    role: Literal["fleet", "clinician"]
    key: str  # file of the public key (Ed25519)


class OrdersConfig(_Section, frozen=True):
    """Whose signatures count under orders: one of each role is needed; docs/sealing.md."""

    signers: tuple[OrderSigner, ...] = ()
    list_signer: str = ""  # file of the private key that signs what a job did here


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


class WebConfig(_Section, frozen=True):
    """The bedside page and its API; docs/web.md."""

    enabled: bool = False
    host: str = "127.0.0.1"  # for others to reach it, certificate, key and logins are needed
    port: int = 8080
    names: tuple[str, ...] = ()  # what browsers call the box by, beside `host`
    certificate: str = ""  # files: then it is https
    key: str = ""
    logins: str = ""  # file; then people log in
    idle_s: float = 900.0  # … and are logged out when nothing came from them for this long


class DeviceConfig(_Section, frozen=True):
    """One `[[device]]`: name and kind here, everything else belongs to the driver's own `Config`."""

    name: str
    kind: str
    subject: str = ""  # pseudonym of who wears it, where several participants are recorded at once
    settings: dict[str, Any] = {}


class EdgeConfig(_Section, frozen=True):
    node: NodeConfig
    recording: RecordingConfig = RecordingConfig()
    disk: DiskConfig = DiskConfig()
    pipeline: PipelineConfig = PipelineConfig()
    uplink: UplinkConfig = UplinkConfig()
    seal: SealConfig = SealConfig()
    retention: RetentionConfig = RetentionConfig()
    orders: OrdersConfig = OrdersConfig()
    lsl: LslConfig = LslConfig()
    web: WebConfig = WebConfig()
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
        raise wrong_entry(source, f"{path} {why}")
    config = convert(table, EdgeConfig, source)
    check(config, source, socket_name=SOCKET_NAME)
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
            return wrong_entry(
                source, f"{path} is {value}, allowed are {listed}", "Choose one of those"
            )
    if found := _MISSING.fullmatch(said):
        key, path = found.groups()
        where = f"{path} of {source}" if path else source
        return ConfigError(
            "invalid",
            f"{source} is not complete",
            why=f"`{key}` is missing",
            remedy=f"Write `{key}` into {where}; brainforge_edge/docs/operator.md lists every key",
        )
    return wrong_entry(source, said)


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
