"""Discovery on real links: emulated headsets on a radio, LSL on loopback, our devices on TCP, UDP and a port."""

import socket
from pathlib import Path

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.discover import Search, look
from brainforge_edge.devices.probe import ask
from brainforge_edge.devices.sighting import Configured, settle
from brainforge_edge.emulators.ganglion import Ganglion
from tests.drivers.bluetooth import address_of, read_until, ward
from tests.drivers.emulated import driver_for, emulated, n_rows, read_for
from tests.drivers.lsl_network import sender

CLOCK = SystemClock()
QUICK = Search(seconds=1.0)


def test_headsets_in_the_air_are_listed_with_kind_address_and_strength(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse(1)
        place.add_muse(2, name="Bedside")
        board: Ganglion = place.add_ganglion()
        search = QUICK._replace(links=("ble",), run=tmp_path)
        found = look(search, clock=CLOCK, backend=place.air.backend)
        assert not found.troubles
        by_address = {seen.address: seen for seen in found.sightings}
        muse, renamed = by_address[address_of(1)], by_address[address_of(2)]
        assert (muse.kind, muse.basis) == ("muse", "its name, Muse-BF01")
        assert muse.identity == f"muse:{address_of(1)}"
        assert isinstance(muse.rssi_dbm, int)
        assert (renamed.kind, renamed.basis) == ("muse", "its service, fe8d")
        ganglion = next(s for s in found.sightings if s.kind == "ganglion")
        assert ganglion.alive == "advertises"
        assert board is not None


def test_a_headset_in_use_stays_in_the_list_and_keeps_its_link(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse(1)
        place.add_muse(2)
        driver = place.muse_driver()
        driver.open()
        before = n_rows(read_until(driver, 24))
        search = QUICK._replace(links=("ble",), run=tmp_path)
        found = look(search, clock=CLOCK, backend=place.air.backend)
        assert driver.info is not None
        assert driver.info.address == address_of(1)
        one = Configured(
            name="m1",
            kind="muse",
            settings={"address": address_of(1)},
            state="streaming",
            identity=f"muse:{address_of(1)}",
            status=driver.status,
        )
        rows = {row.address: row for row in settle(found.sightings, [one], [], utc_ns=None)}
        assert rows[address_of(1)].state == "in use"
        assert rows[address_of(2)].state == "new"
        assert n_rows(read_until(driver, before + 24)) > before


def test_a_box_without_an_adapter_still_lists_the_other_links(tmp_path: Path) -> None:
    with ward(tmp_path) as place, emulated(tmp_path, "accel_hat", link="tcp://:0") as hat:
        place.air.is_absent = True
        search = QUICK._replace(links=("ble", "network"), addresses=(hat.address,))
        found = look(search, clock=CLOCK, backend=place.air.backend)
        assert [seen.address for seen in found.sightings] == [hat.address]
        (trouble,) = found.troubles
        assert trouble.code == "device.no_adapter"
        assert "Plug a Bluetooth adapter in" in str(trouble)


def test_a_radio_without_anybody_is_an_empty_list(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        search = QUICK._replace(links=("ble",), seconds=0.3)
        found = look(search, clock=CLOCK, backend=place.air.backend)
        assert found == ([], [])


def test_streams_on_the_network_are_listed_with_what_they_say(tmp_path: Path) -> None:
    with (
        sender(tmp_path, channels=4, sfreq=250.0, name="EyeLink", kind="Gaze", source_id="eye-1"),
        sender(tmp_path, channels=8, sfreq=500.0, source_id="helmet-7"),
    ):
        found = look(QUICK._replace(links=("lsl",), seconds=2.0), clock=CLOCK)
        assert not found.troubles
        by_name = {seen.name: seen for seen in found.sightings}
        eye = by_name["EyeLink"]
        assert (eye.kind, eye.identity) == ("lsl", "lsl:eye-1/EyeLink")
        assert eye.address == socket.gethostname()
        assert eye.detail["type"] == "Gaze"
        assert eye.detail["rate"] == "250.0"
        assert by_name["OMP_Helmet"].identity == "lsl:helmet-7/OMP_Helmet"


@pytest.mark.parametrize(
    ("emulator", "kind", "name"),
    [
        ("opm", "opm", "OPM helmet"),
        ("fnirs", "fnirs", "optical helmet"),
        ("accel_hat", "accel_hat", "accelerometer hat"),
    ],
)
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_our_devices_tell_who_they_are_at_a_given_address(
    tmp_path: Path, scheme: str, emulator: str, kind: str, name: str
) -> None:
    with emulated(tmp_path, emulator, link=f"{scheme}://:0", serial_number="BF-77") as device:
        search = Search(links=("network",), addresses=(device.address, device.address))
        found = look(search, clock=CLOCK)
        assert not found.troubles
        (seen,) = found.sightings
        assert (seen.link, seen.address, seen.kind) == (scheme, device.address, kind)
        assert (seen.identity, seen.name) == (f"{kind}:BF-77", name)
        assert "WHO_AM_I 0xBF0" in seen.basis
        assert seen.detail["firmware"] == "emulator 1"


def test_a_device_that_was_asked_is_free_again(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat", link="tcp://:0", channels=3) as device:
        for _ in range(2):
            look(Search(links=("network",), addresses=(device.address,)), clock=CLOCK)
        driver = driver_for("accel_hat", device.address)
        try:
            driver.open()
            assert read_for(driver, 0.3)
        finally:
            driver.close()


def test_an_address_that_the_daemon_has_is_not_asked(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat", link="tcp://:0", channels=3) as device:
        address = device.address
        by_name = address.replace("127.0.0.1", "localhost")
        search = Search(links=("network",), addresses=(address, by_name))
        assert len(look(search, clock=CLOCK).sightings) == 2
        for theirs in (address, by_name):
            search = search._replace(in_use=frozenset({theirs}))
            assert look(search, clock=CLOCK) == ([], [])


def test_addresses_where_nobody_listens_are_a_sentence_each() -> None:
    with socket.socket() as silent, socket.socket() as free:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        free.bind(("127.0.0.1", 0))  # … and does not listen
        ports = [f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in (silent, free)]
        found = look(Search(links=("network",), addresses=tuple(ports)), clock=CLOCK)
    assert found.sightings == []
    codes = ["device.no_answer", "device.connection_refused"]
    assert [trouble.code for trouble in found.troubles] == codes


def test_a_wrong_address_spoils_no_list() -> None:
    addresses = ("tcp://nowhere", "bogus://10.0.0.1:5")
    for in_use in (frozenset[str](), frozenset({"tcp://nowhere", "/dev/ttyACM0"})):
        search = Search(links=("network",), addresses=addresses, in_use=in_use)
        found = look(search, clock=CLOCK)
        assert [trouble.code for trouble in found.troubles] == ["config.invalid"] * 2


def test_a_helmet_on_a_port_answers_and_goes_on_streaming(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=4) as device:
        answer = ask(str(device.link), "opm", clock=CLOCK)
        assert (answer.kind, answer.identity) == ("opm", "opm:BF-OPM-EMU-1")
        assert answer.detail["emulated"] == "yes"


def test_a_cyton_is_asked_for_its_banner(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as device:
        answer = ask(str(device.link), "openbci", clock=CLOCK)
        assert (answer.kind, answer.name) == ("openbci", "OpenBCI Cyton")
        assert answer.detail["firmware"].startswith("v3")
        assert not answer.identity


def test_a_port_behind_which_no_board_answers_says_so(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=4) as device:
        with pytest.raises(DeviceError, match="no OpenBCI board answers") as refused:
            ask(str(device.link), "openbci", clock=CLOCK)
        assert refused.value.code == "device.no_answer"
