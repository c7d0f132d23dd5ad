"""Drivers are found by their kind; what is wrong in a configuration is said in one sentence."""

import subprocess
import sys
from typing import Any

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import DeviceConfig, parse
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.devices import registry


def test_every_driver_in_the_package_is_found() -> None:
    assert {"accel_hat", "fnirs", "opm", "openbci"} <= set(registry.kinds())
    for kind in registry.kinds():
        module = registry.load(kind)
        assert module.Config
        assert module.make_driver


@pytest.mark.parametrize("kind", ["teapot", "base", "transport", "../opm", ""])
def test_an_unknown_kind_lists_those_that_exist(kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.load(kind)
    assert caught.value.code == "config.unknown_kind"
    assert "openbci, opm" in str(caught.value)


def test_a_wrong_setting_is_named() -> None:
    device = DeviceConfig(name="helmet", kind="opm", settings={"port": "/dev/x", "prot": 1})
    with pytest.raises(ConfigError) as caught:
        registry.make_driver(device, clock=SystemClock())
    assert "prot" in str(caught.value)
    assert "helmet" in str(caught.value)


NAMES = [f"C{n}" for n in range(16)]
SERIAL = {"port": "/dev/x"}
REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    *(
        (kind, {"port": port}, (f"port is {port}", "serial port", "Correct `port`"))
        for kind in ("openbci", "freeeeg32", "neurosky")
        for port in ("tcp://127.0.0.1:9", "udp://127.0.0.1:9")
    ),
    ("openbci", SERIAL | {"ch_names": NAMES[:7]}, ("7 names", "8 or 16 channels")),
    ("openbci", SERIAL | {"ch_names": NAMES[:8], "daisy": True}, ("8 names", "has 16 channels")),
    ("openbci", SERIAL | {"ch_names": NAMES, "daisy": False}, ("16 names", "has 8 channels")),
    ("openbci", SERIAL | {"ch_names": [*NAMES[:7], "C3"]}, ("'C3' more than once", "`ch_names`")),
    ("freeeeg32", SERIAL | {"ch_names": NAMES * 2}, ("'C0' more than once",)),
    ("ganglion", {"ch_names": ["a", "b", "c", "b"]}, ("'b' more than once",)),
    *(
        (kind, {"address": address}, (repr(address), "00:55:DA:B0:BF:01", "Correct `address`"))
        for kind in ("muse", "ganglion", "polar_h10")
        for address in ("nonsense", "00:55:DA:B0:BF", "00:55:DA:B0:BF:0G", "00:55:DA:B0:BF:01\n")
    ),
    ("polar_h10", {"acc_hz": 0, "silent_s": 2}, ("silent_s is 2", "acc_hz = 0", "at least 4")),
    ("polar_h10", {"silent_s": 0}, (">= 0.1", "silent_s")),
    ("muse", {"find_s": -1}, (">= 0.1", "find_s")),
    ("lsl", {"type": "EEG", "jitter_s": -1}, (">= 0", "jitter_s")),
    ("lsl", {"type": "EEG", "jitter_s": 61}, ("<= 60", "jitter_s")),
    ("lsl", {"type": "EEG", "resolve_s": 0}, (">= 0.1", "resolve_s")),
    ("lsl", {"type": "EEG", "resolve_s": 61}, ("<= 60", "resolve_s")),
    ("lsl", {"type": "EEG", "silent_s": 0}, (">= 0.1", "silent_s")),
    ("muse", {"generation": "bogus"}, ("generation is 'bogus'", "'athena', 'auto', 'classic'")),
    ("muse", {"ppg": ["red", "blue"]}, ("ppg[1] is 'blue'", "'ambient', 'infrared', 'red'")),
    ("polar_h10", {"acc_hz": 7}, ("acc_hz is 7", "0, 25, 50, 100, 200")),
    ("openbci", SERIAL | {"channels": [{"number": 1, "input": "nose"}]},
     ("channels[0].input is 'nose'", "'normal'")),
    ("openbci", {}, ("`port` is missing", "Write `port` into [device.settings] of 'dut'")),
    ("openbci", SERIAL | {"channels": [{}]}, ("`number` is missing", "Write `number` into channels[0]")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "words"), REFUSED)
def test_settings_that_cannot_work_are_refused_before_a_device_is_tried(
    kind: str, settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    device = DeviceConfig(name="dut", kind=kind, settings=settings)
    with pytest.raises(ConfigError) as caught:
        registry.make_driver(device, clock=SystemClock())
    assert caught.value.code in {"config.invalid", "config.out_of_range"}
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("openbci", SERIAL | {"ch_names": NAMES[:8]}),
        ("openbci", SERIAL | {"ch_names": NAMES, "daisy": True}),
        ("muse", {"address": "00:55:da:B0:BF:01"}),
        ("polar_h10", {"acc_hz": 0}),
        ("polar_h10", {"acc_hz": 0, "silent_s": 4}),
        ("polar_h10", {"silent_s": 2}),
        ("lsl", {"type": "EEG", "jitter_s": 0}),
    ],
)
def test_settings_beside_those_are_taken(kind: str, settings: dict[str, Any]) -> None:
    registry.make_driver(
        DeviceConfig(name="dut", kind=kind, settings=settings), clock=SystemClock()
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[node]\nid = "b"\n[lsl]\nscope = "here"\n', ("lsl.scope is 'here'", "'machine'", "'link'")),
        ('[node]\nid = "b"\n[[device]]\nname = "x"\n', ("Write `kind` into device[0] of edge.toml",)),
        ("[node]\n", ("`id` is missing", "Write `id` into node of edge.toml")),
        ("", ("Write `node` into edge.toml",)),
    ],
)  # fmt: skip
def test_what_a_configuration_may_hold_and_must_hold_is_said(
    text: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "edge.toml")
    assert caught.value.code == "config.invalid"
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("kind", ["opm", "fnirs", "accel_hat", "openbci"])
def test_a_driver_brings_no_heavy_library_along(kind: str) -> None:
    code = (
        "import sys; from brainforge_edge.devices import registry; "
        f"registry.load({kind!r}); import brainforge_edge.devices.transport; "
        "print([m for m in ('scipy', 'mne', 'paho', 'sqlite_utils') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
