"""The XML description of an LSL stream → channels. Pure: no library, nothing is fetched.

Source of the words: the XDF meta-data conventions (github.com/sccn/xdf/wiki/Meta-Data),
`desc/channels/channel` with `label`, `type` and `unit`. It comes from the network: its size is
bounded, entities are refused, and one that cannot be read costs the names, never the samples.
Runs in: acquire process, pull thread.
"""

import math
from typing import NamedTuple
from xml.etree import ElementTree as ET  # entities are refused before it sees the text

from brainforge_edge.core.stream import ChannelInfo

MAX_XML = 8 * 1024 * 1024
MAX_NAME = 64
# What a stream may call a quantity → (SI unit, factor).
_SYMBOLS = {"v": "V", "volt": "V", "volts": "V", "t": "T", "tesla": "T", "t/m": "T/m"}
_PREFIXES = {
    "": 1.0, "m": 1e-3, "milli": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "micro": 1e-6,
    "n": 1e-9, "nano": 1e-9, "p": 1e-12, "pico": 1e-12, "f": 1e-15, "femto": 1e-15,
}  # fmt: skip
UNITS = {
    prefix + symbol: (unit, factor)
    for symbol, unit in _SYMBOLS.items()
    for prefix, factor in _PREFIXES.items()
}
TYPES = {
    "eeg": "eeg", "meg": "mag", "mag": "mag", "grad": "grad", "eog": "eog", "ecg": "ecg",
    "ekg": "ecg", "emg": "emg", "ecog": "ecog", "seeg": "seeg", "ref": "eeg",
    "nirs": "fnirs_cw_amplitude", "fnirs": "fnirs_cw_amplitude", "trigger": "stim",
    "stim": "stim", "gsr": "gsr", "resp": "resp",
}  # fmt: skip


class Description(NamedTuple):
    """What a stream says about itself beyond its format."""

    channels: tuple[ChannelInfo, ...]
    manufacturer: str
    model: str
    is_emulated: bool
    has_names: bool  # False: the names are ours, because it gave none that fit


def describe(xml: str, n_channels: int, *, kind: str, unit: str = "") -> Description:
    """`kind` is the stream's LSL type, `unit` what holds where a channel names none. Never raises."""
    root = _parsed(xml)
    found = [] if root is None else root.findall("desc/channels/channel")
    fits = len(found) == n_channels
    names = [_text(channel, "label") for channel in found] if fits else []
    has_names = bool(names) and all(names) and len(set(names)) == n_channels
    channels = []
    for index in range(n_channels):
        declared = found[index] if fits else None
        own_kind = _text(declared, "type") or kind
        own_unit = _text(declared, "unit") or unit
        symbol, scale = si(own_unit)
        name = names[index] if has_names else f"{_word(kind) or 'CH'}{index + 1:03d}"
        channels.append(ChannelInfo(name, TYPES.get(own_kind.lower(), "misc"), symbol, scale))
    return Description(
        channels=tuple(channels),
        manufacturer=_text(root, "desc/manufacturer")
        or _text(root, "desc/acquisition/manufacturer"),
        model=_text(root, "desc/acquisition/model"),
        is_emulated=_text(root, "desc/acquisition/emulated") == "1",
        has_names=has_names,
    )


def si(unit: str) -> tuple[str, float]:
    """(SI unit, factor) of a unit as streams write it; ("1", 1.0) when it says nothing we know."""
    plain = unit.strip()
    if plain == "T/m" or plain in UNITS:
        return UNITS.get(plain, ("T/m", 1.0))
    return UNITS.get(plain.lower(), (plain[:16] or "1", 1.0))


def _parsed(xml: str) -> ET.Element | None:
    if len(xml) > MAX_XML or "<!" in xml:  # a DOCTYPE: entities could grow without bound
        return None
    try:
        return ET.fromstring(xml)  # noqa: S314  bounded, and without a DOCTYPE
    except (ET.ParseError, ValueError):
        return None


def _text(element: ET.Element | None, path: str) -> str:
    found = None if element is None else element.findtext(path)
    printable = "".join(c for c in (found or "").strip() if c.isprintable())
    return printable[:MAX_NAME]


def _word(text: str) -> str:
    return "".join(c for c in text.upper() if c.isascii() and c.isalnum())[:12]


def row_text(names: list[str], row: list[float]) -> str:
    """A row of an irregular stream as a marker: its value, or `name=value` of each channel."""
    values = [repr(int(v)) if math.isfinite(v) and v == int(v) else repr(v) for v in row]
    if len(values) == 1:
        return values[0]
    return " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
