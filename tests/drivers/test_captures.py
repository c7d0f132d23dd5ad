"""Bytes that were captured once decode for ever to the same result.

`python -m tests.drivers.test_captures` captures anew: the first frames of the emulated devices
from a seed, the handshake left out. A changed file is a changed wire format.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.bfp import FrameType, unpack_descriptor
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.openbci_decoder import CytonDecoder
from brainforge_edge.emulators.bfp_device import BfpDevice
from brainforge_edge.emulators.bfp_kinds import Circumstances, helmet
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.openbci import Cyton
from brainforge_edge.emulators.pty import DeviceFifo
from brainforge_edge.emulators.source import cyton_channels, helmet_channels, synthetic
from brainforge_edge.kernels.crc import crc32c

FOLDER = Path(__file__).parent / "captures"


class _Everything:
    """Stands for a port that takes all."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: bytes) -> int:
        self.taken += bytes(data)
        return len(data)


def _taken(fifo: DeviceFifo) -> bytes:
    port = _Everything()
    fifo.send(port)  # type: ignore[arg-type]
    return port.taken


def _helmet() -> tuple[BfpDevice, bytes]:
    source = synthetic(helmet_channels(5), sfreq=1000.0, seed=11, noise=300.0)
    device = helmet(source, Circumstances(Ledger(None), lambda n: b"\x5a" * n, 0))
    device.receive(b"", 0)
    device.start(1_000_000)
    device.produce(160_500_000)
    return device, _taken(device.fifo)


def _cyton() -> bytes:
    source = synthetic(cyton_channels(16), sfreq=125.0, seed=11, noise=40.0)
    board = Cyton(source, ledger=Ledger(None), now_ns=0)
    board.receive(b"<", 0)
    board.receive(b"b", 10_000_000)
    board.produce(410_000_000)
    return _taken(board.fifo)


def _digest(blocks: list[SampleBlock]) -> dict[str, object]:
    rows = np.concatenate([block.data for block in blocks])
    return {
        "rows": len(rows),
        "first": blocks[0].seq,
        "sum": int(rows.astype(np.int64).sum()),
        "sha256": hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest(),
    }


def _decode_helmet(data: bytes, packed: bytes) -> list[SampleBlock]:
    descriptor = unpack_descriptor(packed)
    (stream,) = descriptor.streams
    info = StreamInfo("h-mag", "h", stream.sfreq, Dtype.I24, stream.channels)
    decoder = BfpDecoder(
        {stream.id: (info, stream.format)},
        clk_hz=descriptor.clk_hz,
        schema=crc32c(packed) & 0xFFFF,
        flags=BlockFlag(0),
    )
    return decoder.feed(data, 0)


def _decode_cyton(data: bytes) -> list[SampleBlock]:
    info = StreamInfo("e-eeg", "e", 125.0, Dtype.I24, cyton_channels(16))
    return CytonDecoder(info, daisy=True).feed(data, 0)


def _expected() -> dict[str, dict[str, object]]:
    expected: dict[str, dict[str, object]] = json.loads((FOLDER / "expected.json").read_text())
    return expected


def test_a_captured_helmet_decodes_to_the_stored_result() -> None:
    data = zlib.decompress((FOLDER / "helmet5.bfp.z").read_bytes())
    packed = (FOLDER / "helmet5.descriptor").read_bytes()
    assert _digest(_decode_helmet(data, packed)) == _expected()["helmet5"]


def test_a_captured_cyton_decodes_to_the_stored_result() -> None:
    data = zlib.decompress((FOLDER / "cyton16.z").read_bytes())
    assert _digest(_decode_cyton(data)) == _expected()["cyton16"]


@pytest.mark.parametrize("kind", ["helmet5", "cyton16"])
def test_the_emulators_still_send_the_captured_bytes(kind: str) -> None:
    if kind == "helmet5":
        made, stored = _helmet()[1], (FOLDER / "helmet5.bfp.z").read_bytes()
    else:
        made, stored = _cyton(), (FOLDER / "cyton16.z").read_bytes()
    assert made == zlib.decompress(stored)


def test_a_frame_is_what_the_protocol_page_says() -> None:
    data = zlib.decompress((FOLDER / "helmet5.bfp.z").read_bytes())
    assert data[:4] == b"\xbf\x5a\x01" + bytes([FrameType.DATA])
    assert int.from_bytes(data[4:6], "little") == 16 + 1 + 8 * 5 * 3
    assert data[6] == 1
    assert data[7] & 1  # first frame since the start
    assert data[20:22] == b"\x5a\x5a"


def capture() -> None:
    """Write the files anew."""
    FOLDER.mkdir(exist_ok=True)
    helmet, data = _helmet()
    (FOLDER / "helmet5.bfp.z").write_bytes(zlib.compress(data, 9))
    (FOLDER / "helmet5.descriptor").write_bytes(helmet.descriptor)
    (FOLDER / "cyton16.z").write_bytes(zlib.compress(_cyton(), 9))
    expected = {
        "helmet5": _digest(_decode_helmet(data, helmet.descriptor)),
        "cyton16": _digest(_decode_cyton(_cyton())),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    capture()
