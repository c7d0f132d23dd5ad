"""The BFP/1 scanner reading a descriptor itself: it finds what it finds in bytes it is fed."""

import errno
import os
import random
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainforge_edge.kernels.unpack import BfpScanner
from tests.unit import bfp_oracle
from tests.unit.bfp_oracle import Frame
from tests.unit.test_unpack_bfp import exploded, made, scanned
from tests.unit.transports import TRANSPORTS, Transport

DATA, STATUS = 1, 2


@pytest.fixture
def link() -> Iterator[tuple[int, int]]:
    """(the device's end, the box's end) of a pipe whose box's end does not block."""
    box, device = os.pipe()
    os.set_blocking(box, False)
    yield device, box
    os.close(device)
    os.close(box)


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def frame(payload: bytes) -> bytes:
    return bfp_oracle.build(Frame(STATUS, 0, 0, 1, 1, 7, payload))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: t.__name__)
def test_bytes_that_are_read_give_what_bytes_that_are_fed_give(
    transport: Transport, seed: int, link: tuple[int, int], wake: int
) -> None:
    rng = random.Random(seed)
    parts = list(transport(b"".join(map(bfp_oracle.build, made(rng, 60))), rng))
    scanner = BfpScanner()
    found = []
    for part in parts:
        os.write(link[0], part)
        assert scanner.read(link[1], wake, 0.0) == len(part)
        for place, item in enumerate(scanner.items()):
            found += exploded(scanner, place, item)
    reference, counters = scanned(parts)
    assert found == reference
    assert scanner.frames == counters[0]
    assert scanner.skipped_bytes == counters[1]


def test_the_pieces_of_a_frame_are_one_read(wake: int) -> None:
    """Through a terminal, which hands a long frame over in pieces."""
    device, box = os.openpty()
    tty.setraw(box)
    os.set_blocking(box, False)
    sent = frame(bytes(9_000))
    writer = threading.Thread(target=os.write, args=(device, sent))
    writer.start()
    scanner = BfpScanner()
    try:
        assert scanner.read(box, wake, 10.0) == len(sent)
        assert [item[0] for item in scanner.items()] == [STATUS]
        assert scanner.pending_bytes == 0
    finally:
        writer.join()
        os.close(device)
        os.close(box)


def test_a_serial_port_without_bytes_gives_0_and_is_not_at_its_end(wake: int) -> None:
    """As pyserial sets it: `read` gives 0, not EAGAIN, while nothing has come."""
    device, box = os.openpty()
    tty.setraw(box)
    attributes = termios.tcgetattr(box)
    attributes[6][termios.VMIN] = attributes[6][termios.VTIME] = 0
    termios.tcsetattr(box, termios.TCSANOW, attributes)
    scanner = BfpScanner()
    try:
        assert os.read(box, 1) == b""
        assert scanner.read(box, wake, 0.02) == 0
        os.write(device, frame(b"late"))
        assert scanner.read(box, wake, 10.0) == len(frame(b"late"))
        assert scanner.payload(0) == b"late"
    finally:
        os.close(device)
        os.close(box)


def test_half_a_frame_is_kept_when_the_time_is_over(link: tuple[int, int], wake: int) -> None:
    sent = frame(b"status")
    scanner = BfpScanner()
    os.write(link[0], sent[:20])
    assert scanner.read(link[1], wake, 0.02) == 20
    assert scanner.items() == []
    assert scanner.read(link[1], wake, 0.02) == 0
    os.write(link[0], sent[20:])
    assert scanner.read(link[1], wake, 0.02) == len(sent) - 20
    assert scanner.payload(0) == b"status"


def test_noise_without_end_does_not_keep_the_reader(link: tuple[int, int], wake: int) -> None:
    stop = threading.Event()

    def babble() -> None:
        while not stop.wait(0.001):
            os.write(link[0], b"\x00" * 10)

    noisy = threading.Thread(target=babble)
    noisy.start()
    try:
        began = time.monotonic()
        assert BfpScanner().read(link[1], wake, 0.1) > 0
        assert time.monotonic() - began < 5.0
    finally:
        stop.set()
        noisy.join()


def test_a_wake_up_ends_the_read(link: tuple[int, int], wake: int) -> None:
    timer = threading.Timer(0.05, os.eventfd_write, [wake, 1])
    timer.start()
    began = time.monotonic()
    assert BfpScanner().read(link[1], wake, 30.0) == 0
    assert time.monotonic() - began < 10.0
    timer.join()


def test_what_came_before_the_end_is_handed_out_before_the_error(wake: int) -> None:
    box, device = os.pipe()
    os.set_blocking(box, False)
    scanner = BfpScanner()
    try:
        os.write(device, frame(b"last"))
        os.close(device)
        assert scanner.read(box, wake, 1.0) > 0
        assert scanner.payload(0) == b"last"
        with pytest.raises(EOFError):
            scanner.read(box, wake, 1.0)
    finally:
        os.close(box)


def test_an_error_of_the_link_is_raised_as_the_system_names_it(tmp_path: Path, wake: int) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            BfpScanner().read(folder, wake, 1.0)
        assert caught.value.errno == errno.EISDIR
    finally:
        os.close(folder)


def rows_frame(seq: int, n_rows: int = 20) -> bytes:
    """Rows `seq * 20` and on of a stream of one channel."""
    rows = [[seq * n_rows + k] for k in range(n_rows)]
    payload = bfp_oracle.data_payload(seq * n_rows, rows)
    return bfp_oracle.build(Frame(DATA, 1, 0, seq, seq * 1000, 7, payload))


def test_a_paced_reader_rests_until_the_next_frame_is_due(link: tuple[int, int], wake: int) -> None:
    """What is there early is left until the frame's time; a part of a frame or a backlog is not."""
    scanner = BfpScanner()
    scanner.pace(20.0)  # 20 rows: a frame a second
    os.write(link[0], rows_frame(0))
    began = time.monotonic()
    assert scanner.read(link[1], wake, 5.0) > 0
    os.write(link[0], rows_frame(1) + rows_frame(2)[:30])
    assert scanner.read(link[1], wake, 5.0) > 0
    assert 1.0 <= time.monotonic() - began < 10.0
    rested = time.monotonic()
    os.write(link[0], rows_frame(2)[30:])
    assert scanner.read(link[1], wake, 5.0) > 0
    assert time.monotonic() - rested < 0.9  # the frame was begun: no rest
    assert scanner.frames == 3


def test_a_wake_up_and_the_time_end_a_rest(link: tuple[int, int], wake: int) -> None:
    scanner = BfpScanner()
    scanner.pace(1.0)  # a frame every 20 s
    os.write(link[0], rows_frame(0) + rows_frame(1))
    assert scanner.read(link[1], wake, 5.0) > 0
    os.write(link[0], rows_frame(2))
    began = time.monotonic()
    assert scanner.read(link[1], wake, 0.05) > 0  # at the end of its time it looks
    assert time.monotonic() - began < 5.0
    os.eventfd_write(wake, 1)
    assert scanner.read(link[1], wake, 30.0) == 0
    assert time.monotonic() - began < 10.0


def test_a_paced_reader_follows_a_device_whose_clock_is_off(
    link: tuple[int, int], wake: int
) -> None:
    """Each frame is read within its period, whatever the drift between both clocks."""
    period = 0.004  # 20 rows in 4 ms; the reader is told 4.9 kHz: the device is 2 % fast
    scanner = BfpScanner()
    scanner.pace(4_900.0)

    def stream() -> None:
        start = time.monotonic()
        for seq in range(150):
            time.sleep(max(0.0, start + seq * period - time.monotonic()))
            whole = rows_frame(seq)
            os.write(link[0], whole[:40])
            os.write(link[0], whole[40:])

    device = threading.Thread(target=stream)
    device.start()
    n_bytes = 0
    expected = sum(len(rows_frame(seq)) for seq in range(150))
    until = time.monotonic() + 20.0
    while n_bytes < expected and time.monotonic() < until:
        n_bytes += scanner.read(link[1], wake, 1.0)
    device.join()
    assert n_bytes == expected
    assert scanner.frames == 150
