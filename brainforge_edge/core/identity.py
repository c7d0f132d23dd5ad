"""Who a device is, and whether what answers under a name is who was bound to it. Pure.

An identity is `kind:what-it-proves`: a serial number, a Bluetooth address, the source id of an LSL
stream, the serial number of the adapter that a board is plugged into (`usb-…`). A device that proves
nothing is known by its place alone, `kind:@place`; such a word refuses nobody.
"""

import re
from collections.abc import Mapping
from typing import Any

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo

# Settings by which a driver itself refuses every other device: a person wrote who is meant.
IDENTITY_SETTINGS = ("serial_number", "address", "source_id")
# pylsl makes up a source id where a program gives none: Python's hash, another one at each start.
_MADE_UP = re.compile(r"-?\d{15,20}")
_MOST = 120


def identity_of(kind: str, info: DeviceInfo | None, *, place: str, adapter_serial: str = "") -> str:
    """The identity of what answered at `place`, from what it proves first to what there is."""
    if info is not None and info.address:
        return _identity(kind, info.address.upper())
    if info is not None and info.serial_number and not _is_made_up(kind, info.serial_number):
        # One LSL program may send several streams under one source id.
        suffix = f"/{info.who_am_i}" if kind == "lsl" else ""
        return _identity(kind, info.serial_number + suffix)
    if adapter_serial:
        return _identity(kind, f"usb-{adapter_serial}")
    return _identity(kind, f"@{place}")


def is_proven(identity: str) -> bool:
    """False for a place alone, and for nothing."""
    value = identity.partition(":")[2]
    return bool(value) and not value.startswith("@")


def is_named(settings: Mapping[str, Any]) -> bool:
    """Whether a device's settings say themselves who is meant."""
    return any(settings.get(key) for key in IDENTITY_SETTINGS)


def judge(name: str, answered: str, bound: Mapping[str, str], *, is_named: bool = False) -> bool:
    """Whether `answered` is to become the identity of `name`; False when it is that already.

    `bound`: device name → identity, of the devices that are configured. The first one that answers
    is the person's word, and so is one whom the settings name. DeviceError `identity_taken`,
    `new_identity`.
    """
    expected = bound.get(name, "")
    if expected == answered:
        return False
    if is_proven(answered):
        for other, identity in bound.items():
            if other != name and identity == answered:
                raise taken(name, answered, other)
    if not expected or is_named or not is_proven(expected):
        return True
    raise refused(name, expected, answered)


def taken(name: str, answered: str, other: str) -> DeviceError:
    return DeviceError(
        "identity_taken",
        f"{name} is not trusted",
        why=f"{answered} answers, and that is bound to {other}",
        remedy=f"Connect each device where it belongs, or free it: "
        f"brainforge-edge devices forget {other}",
        transient=True,
        expected="",
        answered=answered,
        holder=other,
    )


def refused(name: str, expected: str, answered: str) -> DeviceError:
    who = answered if is_proven(answered) else f"one that proves no identity ({answered})"
    return DeviceError(
        "new_identity",
        f"{name} is not trusted",
        why=f"{who} answers, {expected} is bound to that name",
        remedy=f"Put the old one back, or accept the new one: brainforge-edge devices bind {name}",
        transient=True,
        expected=expected,
        answered=answered,
    )


def _is_made_up(kind: str, serial_number: str) -> bool:
    return kind == "lsl" and bool(_MADE_UP.fullmatch(serial_number))


def _identity(kind: str, value: str) -> str:
    """It stands in logs, tables and sentences, and comes from the wire."""
    printable = "".join(c if c.isprintable() and not c.isspace() else "_" for c in value)
    return f"{kind}:{printable[:_MOST]}"
