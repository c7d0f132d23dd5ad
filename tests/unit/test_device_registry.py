"""The registry: what it remembers of a device, and what happens when it cannot."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import ConfigError, DeviceError, StorageError
from brainforge_edge.fleet.devices import Devices
from brainforge_edge.fleet.registry import Registry, read_devices
from brainforge_edge.storage.node import NODE_FILE, migrations

INFO = {
    "who_am_i": "accelerometer hat", "serial_number": "1", "hardware_version": "rev B",
    "firmware_version": "1.2",
}  # fmt: skip


def answer(registry: Registry, number: str, name: str, utc_ns: int | None, **more: Any) -> None:
    given: dict[str, Any] = {"binds": False, "is_refused": False, "info": INFO} | more
    registry.answered(
        identity=f"accel_hat:{number}",
        kind="accel_hat",
        link="tcp",
        name=name,
        utc_ns=utc_ns,
        **given,
    )


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    with closing(Registry(tmp_path)) as made:
        yield made


def test_a_device_is_remembered_from_its_first_to_its_last_answer(registry: Registry) -> None:
    answer(registry, "1", "hat", None, binds=True)  # the time is not known yet
    (device,) = registry.devices()
    assert (device.first_seen_ns, device.last_seen_ns) == (None, None)
    answer(registry, "1", "hat", 500)
    answer(registry, "1", "hat", 900)
    answer(registry, "1", "hat", None, info=INFO | {"firmware_version": "1.3"})
    (device,) = registry.devices()
    assert (device.first_seen_ns, device.last_seen_ns) == (500, 900)
    assert (device.times_connected, device.firmware, device.hardware) == (4, "1.3", "rev B")
    assert (device.name, device.pairing, device.link) == ("hat", "bound", "tcp")


def test_a_stranger_is_remembered_as_refused_and_takes_nothing_away(registry: Registry) -> None:
    answer(registry, "1", "hat", 1, binds=True)
    answer(registry, "2", "hat", 2, is_refused=True)
    answer(registry, "1", "cap", 3, is_refused=True)  # it belongs to hat
    assert registry.bound() == {"hat": "accel_hat:1"}
    devices = {device.identity: device for device in registry.devices()}
    assert (devices["accel_hat:2"].pairing, devices["accel_hat:2"].times_connected) == (
        "refused",
        0,
    )
    assert devices["accel_hat:1"].name == "hat"


def test_a_device_whose_name_changed_in_the_configuration_moves_with_its_binding(
    registry: Registry,
) -> None:
    answer(registry, "1", "hat", 1, binds=True)
    answer(registry, "1", "cap", 2, binds=True)
    assert registry.bound() == {"cap": "accel_hat:1"}


def test_whom_a_person_binds_may_be_named_in_any_way_that_says_who(registry: Registry) -> None:
    answer(registry, "1", "hat", 1, binds=True)
    answer(registry, "BF-2", "hat", 2, is_refused=True)
    registry.alias("accel_hat:BF-2", "blue")
    before = "accel_hat:1"
    for who in ("accel_hat:BF-2", "bf-2", "blue"):
        found = registry.bind("hat", who, kind="accel_hat", link="")
        assert found == ("accel_hat:BF-2", before)
        before = "accel_hat:BF-2"
    assert registry.bind("cap", "accel_hat:9", kind="accel_hat", link="") == ("accel_hat:9", "")
    with pytest.raises(DeviceError, match="bound to cap"):
        registry.bind("hat", "9", kind="accel_hat", link="")
    with pytest.raises(ConfigError, match="there is no one device 'AA:BB'"):
        registry.bind("hat", "AA:BB", kind="accel_hat", link="")
    with pytest.raises(ConfigError, match="there is no one device 'accel_hat:'"):
        registry.bind("hat", "accel_hat:", kind="accel_hat", link="")
    assert registry.bound() == {"hat": "accel_hat:BF-2", "cap": "accel_hat:9"}


def test_an_alias_belongs_to_one_device(registry: Registry) -> None:
    answer(registry, "1", "hat", 1, binds=True)
    answer(registry, "2", "cap", 1, binds=True)
    registry.alias("accel_hat:1", "blue")
    with pytest.raises(ConfigError, match="that is the alias of accel_hat:1") as refused:
        registry.alias("accel_hat:2", "blue")
    assert refused.value.code == "config.alias_used"
    registry.alias("blue", "")
    registry.alias("accel_hat:2", "blue")
    registry.alias("accel_hat:1", "")


def test_forgetting_frees_the_name(registry: Registry) -> None:
    answer(registry, "1", "hat", 1, binds=True)
    assert [device.identity for device in registry.forget("hat")] == ["accel_hat:1"]
    assert registry.devices() == []
    with pytest.raises(ConfigError, match="this box has met none"):
        registry.forget("hat")


def test_the_table_outlives_the_process_and_is_read_by_others(tmp_path: Path) -> None:
    assert read_devices(tmp_path) == []
    with closing(Registry(tmp_path)) as first:
        answer(first, "1", "hat", 1, binds=True)
        assert [row["identity"] for row in read_devices(tmp_path)] == ["accel_hat:1"]
    assert [row["identity"] for row in read_devices(tmp_path)] == ["accel_hat:1"]
    with closing(sqlite3.connect(tmp_path / NODE_FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)


@pytest.mark.parametrize("damage", ["garbage", "newer"])
def test_a_database_that_cannot_be_used_costs_the_memory_and_nothing_else(
    tmp_path: Path, damage: str
) -> None:
    if damage == "garbage":
        (tmp_path / NODE_FILE).write_bytes(b"this is no database" * 500)
    else:
        with closing(sqlite3.connect(tmp_path / NODE_FILE)) as connection:
            connection.execute("PRAGMA user_version=99")
    said: list[Any] = []
    devices = Devices(tmp_path, clock=SystemClock(), send=said.append)
    devices.report()
    devices.answered(
        ipc.Answered(device="hat", kind="opm", link="tcp", identity="opm:1", binds=True)
    )
    devices.command(ipc.Command(token=7, name="list"))
    devices.close()
    assert [type(message) for message in said] == [ipc.Fault, ipc.Fault, ipc.CommandDone]
    assert said[-1].token == 7
    assert said[-1].error["code"].startswith("storage.")
    with pytest.raises(StorageError):
        read_devices(tmp_path)


def test_a_command_that_the_registry_does_not_know_is_refused(tmp_path: Path) -> None:
    said: list[Any] = []
    devices = Devices(tmp_path, clock=SystemClock(), send=said.append)
    devices.command(ipc.Command(token=1, name="burn"))
    devices.close()
    assert said[0].error["code"] == "config.bad_argument"
