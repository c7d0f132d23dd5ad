"""What the Bluetooth service says becomes one sentence with a cause, a remedy and a code."""

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices import ble, ble_errors
from brainforge_edge.devices.ble_adapter import AdapterLock
from brainforge_edge.devices.ble_adapter import is_blocked as is_blocked_at

REASON = BleakBluetoothNotAvailableReason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BleakBluetoothNotAvailableError("none", REASON.NO_BLUETOOTH), "no_adapter"),
        (BleakBluetoothNotAvailableError("none", REASON.NO_BLE_CENTRAL_ROLE), "no_adapter"),
        (BleakBluetoothNotAvailableError("off", REASON.POWERED_OFF), "adapter_off"),
        (BleakBluetoothNotAvailableError("no", REASON.DENIED_BY_SYSTEM), "bluetooth_denied"),
        (BleakError("adapter 'hci7' not found"), "no_adapter"),
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), "adapter_off"),
        (BleakDBusError("org.bluez.Error.InProgress", ["busy"]), "adapter_busy"),
        (
            BleakDBusError("org.bluez.Error.Failed", ["le-connection-abort-by-local"]),
            "connect_failed",
        ),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["x"]), "no_bluetooth"),
        (BleakDBusError("org.freedesktop.DBus.Error.Spawn.ChildExited", ["x"]), "no_bluetooth"),
        (BleakDBusError("org.freedesktop.systemd1.NoSuchUnit", ["x"]), "no_bluetooth"),
        (BleakDBusError("org.freedesktop.DBus.Error.FileExists", ["x"]), "no_bluetooth"),
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", ["x"]), "bluetooth_denied"),
        (FileNotFoundError(2, "No such file or directory"), "no_bluetooth"),
        (ConnectionRefusedError(111, "Connection refused"), "no_bluetooth"),
        (EOFError(), "no_bluetooth"),
        (PermissionError(13, "Permission denied"), "bluetooth_denied"),
    ],
)
def test_every_refusal_has_a_code_of_its_own(
    error: Exception, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ble_errors, "is_blocked", lambda: False)
    translated = ble_errors.translated(error)
    assert translated.code == f"device.{code}"
    assert len(str(translated).splitlines()) == 1
    assert ".." not in str(translated)


@pytest.mark.parametrize(
    ("radios", "is_blocked"),
    [
        ([], False),
        ([("bluetooth", "0", "0")], False),
        ([("bluetooth", "1", "0")], True),
        ([("bluetooth", "0", "1")], True),
        ([("bluetooth", "1", "0"), ("bluetooth", "0", "0")], False),
        ([("wlan", "1", "0"), ("bluetooth", "0", "0")], False),
    ],
)
def test_a_radio_that_is_blocked_is_told_from_one_that_is_off(
    tmp_path: Path, radios: list[tuple[str, str, str]], is_blocked: bool
) -> None:
    for number, values in enumerate(radios):
        entry = tmp_path / f"rfkill{number}"
        entry.mkdir()
        for name, value in zip(("type", "soft", "hard"), values, strict=True):
            (entry / name).write_text(value + "\n")
    assert is_blocked_at(tmp_path) is is_blocked


def test_a_box_without_the_service_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nothing")
    with pytest.raises(DeviceError) as caught:
        ble.scan(0.1)
    assert caught.value.code == "device.no_bluetooth"
    assert "bluez" in caught.value.remedy


def test_one_at_a_time_connects_on_an_adapter(tmp_path: Path) -> None:
    order: list[str] = []
    first_holds = threading.Event()

    async def hold(name: str, seconds: float) -> None:
        async with AdapterLock(tmp_path, "hci0").held():
            order.append(f"{name} in")
            first_holds.set()
            await asyncio.sleep(seconds)
            order.append(f"{name} out")

    first = threading.Thread(target=lambda: asyncio.run(hold("first", 0.3)))
    first.start()
    assert first_holds.wait(5)
    asyncio.run(hold("second", 0.0))
    first.join(5)
    assert order == ["first in", "first out", "second in", "second out"]


def test_another_adapter_is_free_and_a_held_one_is_given_up_after_a_while(tmp_path: Path) -> None:
    held = os.open(tmp_path / "ble-hci0.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)

    async def take(adapter: str) -> None:
        async with AdapterLock(tmp_path, adapter).held(0.2):
            pass

    asyncio.run(take("hci1"))
    with pytest.raises(DeviceError) as caught:
        asyncio.run(take("hci0"))
    os.close(held)
    assert caught.value.code == "device.adapter_busy"
    asyncio.run(take("hci0"))


def test_only_a_bluetooth_device_brings_bleak_along() -> None:
    code = (
        "import sys; from brainforge_edge.devices import registry; "
        "import brainforge_edge.acquisition.worker; "
        "registry.load('opm'); registry.load('openbci'); registry.load('muse'); "
        "registry.load('ganglion'); "
        "print([m for m in ('bleak', 'dbus_fast', 'bumble') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
