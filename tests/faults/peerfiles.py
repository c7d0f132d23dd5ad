"""What is recorded beside us, each as its own users have it: BrainFlow's file streamer, and a file in XDF.

    python -m tests.faults.peerfiles FILE

The module as a program is BrainFlow at work: its synthetic board streamed to FILE, and a line on
stdout with the number of samples that the application has been handed, each 20 ms, until it is killed.
XDF is written here by its specification (XDF 1.0, sccn/xdf): 8 channels of float32, a chunk a second.
"""

import struct
import sys
import time
from importlib import resources
from pathlib import Path

import numpy as np
from brainflow import board_shim
from brainflow.board_shim import BoardIds, BoardShim, BrainFlowInputParams

CHANNELS = 8
XDF_RATE = 250
STREAM_ID = 1
_TAGS = {"header": 1, "stream": 2, "samples": 3, "footer": 6}


def stream_to(path: Path) -> None:
    """Until killed."""
    # Python 3.11 finds no files by a module's name, and the setuptools of today has no pkg_resources.
    board_shim.files = lambda _: resources.files("brainflow")
    BoardShim.disable_board_logger()
    board = BoardShim(BoardIds.SYNTHETIC_BOARD, BrainFlowInputParams())
    board.prepare_session()
    board.start_stream(45_000, f"file://{path}:w")
    handed = 0
    while True:
        handed += board.get_board_data().shape[1]
        sys.stdout.write(f"{handed}\n")
        sys.stdout.flush()
        time.sleep(0.02)


def brainflow_rows(path: Path) -> int:
    """Whole lines: a last one that was torn is no sample."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def xdf(path: Path, *, seconds: int, seed: int) -> None:
    """A file of noise."""
    rng = np.random.default_rng(seed)
    info = (
        "<?xml version='1.0'?><info><name>peer</name><type>EEG</type>"
        f"<channel_count>{CHANNELS}</channel_count><nominal_srate>{XDF_RATE}</nominal_srate>"
        "<channel_format>float32</channel_format></info>"
    )
    parts = [
        b"XDF:",
        _chunk("header", b"<?xml version='1.0'?><info><version>1.0</version></info>"),
        _chunk("stream", struct.pack("<I", STREAM_ID) + info.encode()),
    ]
    for second in range(seconds):
        rows = rng.normal(0, 30, (XDF_RATE, CHANNELS)).astype("<f4")
        samples = b"".join(
            # Only the first of a chunk has its own time: the others follow at the nominal rate.
            (b"\x08" + struct.pack("<d", float(second)) if n == 0 else b"\x00") + row.tobytes()
            for n, row in enumerate(rows)
        )
        content = struct.pack("<IBI", STREAM_ID, 4, XDF_RATE) + samples
        parts.append(_chunk("samples", content))
    footer = (
        "<?xml version='1.0'?><info><first_timestamp>0</first_timestamp>"
        f"<last_timestamp>{seconds - 1 / XDF_RATE}</last_timestamp>"
        f"<sample_count>{seconds * XDF_RATE}</sample_count></info>"
    )
    parts.append(_chunk("footer", struct.pack("<I", STREAM_ID) + footer.encode()))
    path.write_bytes(b"".join(parts))


def _chunk(tag: str, content: bytes) -> bytes:
    size = len(content) + 2
    return b"\x04" + struct.pack("<IH", size, _TAGS[tag]) + content


if __name__ == "__main__":
    stream_to(Path(sys.argv[1]))
