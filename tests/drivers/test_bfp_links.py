"""Our devices over a pseudo-terminal, TCP and UDP: every row, every loss, every error by name."""

import socket
import time
from itertools import groupby
from pathlib import Path

import pytest

from brainforge_edge.cloud.broker.ports import free_port
from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.errors import BrainforgeError, ConfigError, DeviceError
from brainforge_edge.devices.base import Driver
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.devices.network import open_network, parse
from brainforge_edge.emulators.main import make_source
from brainforge_edge.emulators.netport import Mangling
from tests.drivers.emulated import (
    BESIDE,
    check_rows,
    commanded,
    driver_for,
    emulated,
    n_rows,
    read_for,
    read_to_the_end,
)

STREAMS = {
    "opm": {"mag": (306, 1000.0)},
    "fnirs": {"flow": (52, 10.0), "flux": (52, 10.0)},
    "accel_hat": {"acc1": (3, 1000.0), "acc2": (3, 1000.0)},
}
LINKS = ["", "tcp://:0", "udp://:0"]


def by_stream(blocks: list[SampleBlock]) -> dict[str, list[SampleBlock]]:
    ordered = sorted(blocks, key=lambda block: block.stream_id)  # stable: in order within each
    grouped = groupby(ordered, key=lambda block: block.stream_id.partition("-")[2])
    return {stream: list(found) for stream, found in grouped}


def no_room(driver: Driver) -> int:
    """Datagrams that the kernel dropped so far; of a driver that nobody reads meanwhile."""
    assert isinstance(driver, BfpDriver)
    assert driver._transport is not None
    return driver._transport.dropped_packets


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", STREAMS)
def test_every_row_arrives_over_every_link(tmp_path: Path, kind: str, link: str) -> None:
    with emulated(tmp_path, kind, link=link) as device:
        driver = driver_for(kind, device.address)
        infos = [info for info in driver.open() if not info.stream_id.endswith(BESIDE)]
        assert {
            info.stream_id.partition("-")[2]: (info.n_channels, info.sfreq) for info in infos
        } == STREAMS[kind]
        found = by_stream(read_for(driver, 0.8))
        dropped = no_room(driver)
        driver.close()
    assert found.keys() == STREAMS[kind].keys()
    # Datagrams for which the kernel had no room are lost, and it says how many.
    first_seq = None if dropped else 0
    most = dropped * (1 if kind == "opm" else 20)  # samples of a datagram
    for stream, blocks in found.items():
        assert check_rows(blocks, make_source(kind, stream=stream), first_seq) <= most
        assert n_rows(blocks) >= 0.5 * STREAMS[kind][stream][1]
    assert driver.counters.lost_samples <= most
    assert driver.counters.skipped_bytes == 0


def test_datagrams_for_which_the_box_had_no_room_are_counted(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", link="udp://:0") as device:
        driver = driver_for("opm", device.address)
        driver.open()
        before = read_for(driver, 0.2)
        while not no_room(driver):
            time.sleep(0.05)
        after = read_for(driver, 1.5)
        driver.close()
    lost = check_rows(before + after, make_source("opm"))
    assert 0 < lost == driver.counters.lost_samples <= driver.counters.dropped_packets


def test_over_udp_a_frame_holds_one_sample(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", link="udp://:0") as device:
        driver = driver_for("opm", device.address)
        driver.open()
        values, _ = commanded(driver, "read_register", address=41, size=2)
        driver.close()
    assert values == {"data": "0100"}


def test_over_udp_a_frame_of_few_channels_stays_as_long_as_it_is(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat", link="udp://:0") as device:
        driver = driver_for("accel_hat", device.address)
        driver.open()
        values, _ = commanded(driver, "read_register", address=41, size=2)
        driver.close()
    assert values == {"data": "1400"}  # 20 samples of 9 bytes


@pytest.mark.parametrize("seed", range(3))
def test_lost_late_and_repeated_datagrams_are_counted_and_gaps_are_exact(
    tmp_path: Path, seed: int
) -> None:
    mangling = Mangling(loss=0.1, repeat=0.1, overtake=0.1, seed=seed)
    with emulated(tmp_path, "accel_hat", link="udp://:0", mangling=mangling) as device:
        driver = driver_for("accel_hat", device.address)
        driver.open()
        found = by_stream(read_for(driver, 2.0))
        driver.close()
    counters = driver.counters
    lost = 0
    for stream, blocks in found.items():
        lost += check_rows(blocks, make_source("accel_hat", stream=stream))
        assert {b.gap.basis for b in blocks if b.gap is not None} == {GapBasis.DEVICE_INDEX}
    # Those that were lost before the first row of a stream are no hole in it.
    assert 0 < lost <= counters.lost_samples
    assert counters.late_frames > 0
    assert counters.repeated_frames > 0
    assert counters.restarts == 0


def test_a_host_that_comes_back_over_tcp_finds_the_run_with_an_exact_gap(tmp_path: Path) -> None:
    source = make_source("opm", channels=9)
    with emulated(tmp_path, "opm", link="tcp://:0", channels=9) as device:
        driver = driver_for("opm", device.address)
        driver.open()
        before, proof = read_for(driver, 0.3), driver.proof("dut-mag")
        driver.close()
        driver = driver_for("opm", device.address)
        driver.open()
        after = read_for(driver, 0.3)
        assert driver.proof("dut-mag") == proof
        device.switches.stop = True
        _, error = read_to_the_end(driver)
        driver.close()
    assert error.code == "device.link_lost"
    assert error.why == "the other end closed it"
    check_rows(before, source, 0)
    check_rows(after, source)
    assert after[0].seq > before[-1].seq
    assert len(device.ledger()["runs"]) == 1


def test_a_port_where_nobody_listens_is_refused() -> None:
    address = f"tcp://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    with pytest.raises(DeviceError) as caught:
        driver_for("opm", address).open()
    check_sentence(caught.value, "device.connection_refused", address, "nobody listens")


def test_datagrams_to_nobody_are_a_lost_link() -> None:
    address = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    driver = driver_for("accel_hat", address)
    with pytest.raises(DeviceError) as caught:
        driver.open()
    driver.close()
    check_sentence(caught.value, "device.link_lost", address, "connection refused")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_name_that_nobody_knows(scheme: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_network(f"{scheme}://no-such-helmet.invalid:5000")
    check_sentence(caught.value, "device.unknown_host", "no-such-helmet.invalid")


def test_a_network_that_cannot_be_reached() -> None:
    with pytest.raises(DeviceError) as caught:
        open_network("tcp://255.255.255.255:5000")  # a broadcast address takes no connection
    check_sentence(caught.value, "device.unreachable", "255.255.255.255")


@pytest.mark.parametrize(
    "port", ["tcp://", "tcp://host", "udp://:5", "tcp://h:70000", "tcp://h:x", "udp://h:1/path"]
)
def test_what_is_no_address_is_refused_by_name(port: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(port)
    check_sentence(caught.value, "config.invalid", port)


@pytest.mark.parametrize("number", ["65536", "9" * 5000])
def test_a_port_number_out_of_range_is_called_so(number: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"udp://h:{number}")
    check_sentence(caught.value, "config.invalid", number, "out of range", "`port`")
    assert parse("udp://h:65535") == ("udp", "h", 65535)


def check_sentence(error: BrainforgeError, code: str, *words: str) -> None:
    assert error.code == code
    assert len(str(error).splitlines()) == 1
    for word in words:
        assert word in str(error)
