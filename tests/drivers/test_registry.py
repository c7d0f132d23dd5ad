"""Drivers are found by their kind; what is wrong in a configuration is said in one sentence."""

import subprocess
import sys

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import DeviceConfig
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
