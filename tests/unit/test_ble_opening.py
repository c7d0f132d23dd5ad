"""The first half second of a Bluetooth connection: a late first packet is not felt for a minute."""

import numpy as np

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.ble_opening import HOLD_NS, Opening
from brainforge_edge.devices.ganglion_decoder import GanglionDecoder, stream
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.emulators.ganglion import Coder, ganglion_source

START_NS, PACKET_NS = 10**15, 10_000_000


def made(counters: LinkCounters | None = None) -> GanglionDecoder:
    return GanglionDecoder(stream("dut"), counters or LinkCounters(), firmware=3)


def packets(n: int, *, late_ms: float) -> list[Packet]:
    """Packet k is measured at k + 1 periods; the first one arrives late, the others in 0 to 8 ms."""
    coder = Coder(ganglion_source(), firmware=3)
    random = np.random.default_rng(5)
    late_ns = random.uniform(0, 8e6, n)
    late_ns[0] = late_ms * 1e6
    at_ns = np.maximum.accumulate(START_NS + (np.arange(n) + 1) * PACKET_NS + late_ns)
    return [Packet(int(at), "", coder.next()[0]) for at in at_ns]


def fed(opening: Opening, given: list[Packet]) -> list[SampleBlock]:
    return [block for each in given for block in opening.feed((each,), each.arrived_ns)]


def error_ms(block: SampleBlock) -> float:
    """Label − truth of its first row, which was measured a period after the start."""
    return (block.t_first_ns - START_NS - (block.seq + 1) * PACKET_NS / 2) / 1e6


def test_the_first_label_rests_on_the_least_late_packet() -> None:
    given = packets(100, late_ms=60)
    plain = made()
    without = [block for each in given for block in plain.feed(each)]
    blocks = fed(Opening(made(), made), given)
    assert error_ms(without[0]) > 50
    assert 0 <= error_ms(blocks[0]) < 1
    assert [block.seq for block in blocks] == [block.seq for block in without]
    for one, two in zip(blocks, without, strict=True):
        np.testing.assert_array_equal(one.data, two.data)


def test_nothing_is_kept_longer_than_a_second_when_nothing_follows() -> None:
    opening = Opening(made(), made)
    given = packets(10, late_ms=1)
    assert fed(opening, given) == []
    first = given[0].arrived_ns
    assert opening.feed((), first + HOLD_NS) == []
    assert len(opening.feed((), first + 2 * HOLD_NS)) == 10


def test_after_a_restart_it_is_done_again() -> None:
    opening = Opening(made(), made)
    fed(opening, packets(100, late_ms=0))
    opening.restart()
    later = [
        Packet(each.arrived_ns + 5 * 10**9, "", each.data) for each in packets(100, late_ms=60)
    ]
    blocks = fed(opening, later)
    assert blocks[0].incarnation == 1
    assert 0 <= (blocks[0].t_first_ns - START_NS - 5 * 10**9 - PACKET_NS / 2) / 1e6 < 1


def test_the_latency_of_the_kind_is_taken_off_every_label() -> None:
    given = packets(100, late_ms=3)
    info = stream("dut")
    late = [
        GanglionDecoder(info, LinkCounters(), firmware=3, bias_ns=bias) for bias in (0, 7_000_000)
    ]
    for each in given:
        (one,), (two,) = (decoder.feed(each) for decoder in late)
        assert one.t_first_ns - two.t_first_ns == 7_000_000
