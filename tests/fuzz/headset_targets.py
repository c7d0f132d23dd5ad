"""Notifications of Bluetooth devices: Muse, its Athena generation, Ganglion."""

import gzip
from collections.abc import Iterator
from functools import partial

from brainforge_edge.devices import athena_decoder as athena
from brainforge_edge.devices import ganglion_decoder as ganglion
from brainforge_edge.devices import muse_decoder as muse
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.muse_control import Replies, command
from brainforge_edge.emulators.athena import Packets, athena_source
from brainforge_edge.emulators.ganglion import Coder, ganglion_source
from brainforge_edge.emulators.muse import motion_rows, muse_source, pack12
from tests.fuzz.target import Bytes, Target, plain, read_records, records
from tests.recordings import DATA

_NOW_NS = 10**12
_INFOS = muse.streams("dut", aux=True, ppg=("infrared", "red"))
_CHARACTERISTICS = (
    *muse.EEG.values(), muse.AUX, muse.ACC, muse.GYRO, *muse.PPG.values(), muse.TELEMETRY,
    muse.CONTROL,
)  # fmt: skip
_PRESETS = ("p1041", "p21", "p1045", "p1035")


def packets(data: bytes) -> Iterator[tuple[int, Packet]]:
    """(which characteristic, notification with its time)."""
    now = _NOW_NS
    for which, delay_ms, body in read_records(data):
        now += delay_ms * 1_000_000
        name = _CHARACTERISTICS[which % len(_CHARACTERISTICS)]
        yield which, Packet(now, name, body)


def run_muse(data: bytes) -> None:
    decoder = muse.MuseDecoder(_INFOS, LinkCounters())
    n_channels = {info.stream_id: info.n_channels for info in _INFOS.values()}
    for _, packet in packets(data):
        for block in decoder.feed(packet):
            assert block.data.shape[1] == n_channels[block.stream_id]
            assert 0 <= block.seq < 2**63
    assert set(decoder.telemetry) <= {
        "battery_percent", "fuel_gauge_mv", "adc_mv", "temperature_c",
    }  # fmt: skip


def muse_seeds() -> list[bytes]:
    rows = muse_source(3, 4).rows(0, 24)
    plain = []
    for packet in range(2):
        index = packet.to_bytes(2, "big")
        for channel in range(4):
            body = pack12(rows[12 * packet : 12 * packet + 12, channel])
            plain.append((channel, 12, index + body))
        motion = motion_rows(packet).astype(">i2").tobytes()
        plain += [(4, 12, index + bytes(18)), (5, 1, index + motion), (6, 1, index + motion)]
        plain += [(8, 1, index + bytes(range(18))), (10, 1, index + bytes(range(18)))]
    wrapped = [
        (channel, 12, ((65_530 + 4 * n) % 65_536).to_bytes(2, "big") + bytes(18))
        for n in range(4)
        for channel in range(5)
    ]
    lost = records(*plain[:3], *plain[5:])
    return [records(*plain), records(*plain[::-1]), lost, records(*wrapped)]


def run_control(data: bytes) -> None:
    replies = Replies()
    source = Bytes(data)
    while source.is_left:
        n = source.number()
        for reply in replies.feed(source.take(n)):
            assert isinstance(reply, dict)


def control_seeds() -> list[bytes]:
    texts = (b'{"rc":0}', b'{"hn":"Muse-1A2B","bp":61.5,"sn":"2043","rc":0}', b'{"ap":[1,{"a":2}]}')
    notified = []
    for text in texts:
        parts = [text[at : at + 19] for at in range(0, len(text), 19)]
        whole = [bytes([len(part)]) + part.ljust(19, b"\0") for part in parts]
        notified.append(b"".join(bytes([20]) + part for part in whole))
    brackets = (bytes([201, 200]) + b"[" * 200) * 8
    deep = bytes([7, 6]) + b'{"a":[' + brackets + bytes([3, 2]) + b"]}"
    return [*notified, b"".join(notified), deep, b"\x04" + command("v1")]


def run_athena(data: bytes) -> None:
    source = Bytes(data)
    preset = _PRESETS[source.number() % len(_PRESETS)]
    infos = athena.streams("dut", athena.layout(preset), eeg_zero=8192, optics_scale=1.0)
    n_channels = {info.stream_id: info.n_channels for info in infos.values()}
    decoder = athena.AthenaDecoder(infos, LinkCounters())
    for _, packet in packets(source.rest()):
        for block in decoder.feed(packet):
            assert block.data.shape[1] == n_channels[block.stream_id]
            assert 0 <= block.seq < 2**63


def athena_seeds() -> list[bytes]:
    made = Packets(athena_source(seed=4))
    bodies = [body for at in range(1, 4) for body in made.until(0.01 * at, battery_raw=20_000)]
    seeds = [bytes([0]) + records(*((0, 10, body) for body in bodies[:6]))]
    for number, preset in enumerate(("p1041", "p21", "p1045")):
        path = DATA / "muse_athena_captures" / f"data_{preset}.txt.gz"
        if path.exists():
            with gzip.open(path, "rt") as lines:
                texts = [line.split("\t")[2] for line, _ in zip(lines, range(6), strict=False)]
            captured = [bytes.fromhex(text.strip()) for text in texts]
            seeds.append(bytes([number]) + records(*((0, 20, body) for body in captured[:4])))
    return seeds


def run_ganglion(firmware: int, data: bytes) -> None:
    decoder = ganglion.GanglionDecoder(ganglion.stream("dut"), LinkCounters(), firmware=firmware)
    for _, packet in packets(data):
        for block in decoder.feed(packet):
            assert block.data.shape[1] == ganglion.N_CHANNELS
            assert abs(block.data.astype(int)).max() <= ganglion.RAIL + 1
            assert 0 <= block.seq < 2**63
    assert all(ohm >= 0 for ohm in decoder.impedance_ohm.values())


def ganglion_seeds(firmware: int) -> list[bytes]:
    seeds = []
    for is_wide in (False, True):
        coder = Coder(ganglion_source(seed=5), firmware=firmware, is_wide=is_wide)
        bodies = [coder.next()[0] for _ in range(206)]
        seeds.append(records(*((0, 10, body) for body in bodies[:14])))
        seeds.append(records(*((0, 10, body) for body in (*bodies[:3], *bodies[98:106]))))
    said = (b"\xc9" + b"12345Z", b"\xcd7Z\0\0", b"\xceFirmware", b"\xcf: v2.0.1\n")
    return [*seeds, records(*((0, 10, body) for body in said))]


TARGETS: tuple[Target, ...] = (
    Target("muse", muse_seeds, plain(run_muse), 512),
    Target("muse-control", control_seeds, plain(run_control), 4096),
    Target("athena", athena_seeds, plain(run_athena)),
    *(
        Target(
            f"ganglion{firmware}",
            partial(ganglion_seeds, firmware),
            plain(partial(run_ganglion, firmware)),
            352,
        )
        for firmware in (2, 3)
    ),
)
