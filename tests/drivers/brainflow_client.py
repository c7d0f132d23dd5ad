"""BrainFlow's own driver reads a board on a serial port; what it got goes to a file. Run as a program:
its threads and descriptors end with the process.

    python -m tests.drivers.brainflow_client BOARD PORT SECONDS RUNS OUTPUT.npz
"""

import sys
import time
from importlib import resources

import numpy as np
from brainflow import board_shim
from brainflow.board_shim import BoardIds, BoardShim, BrainFlowInputParams
from numpy.typing import ArrayLike


def main(board: str, port: str, seconds: float, runs: int, output: str) -> None:
    """The data matrix (rows, samples) of each run between a start and a stop, and the rows' meaning."""
    # Python 3.11 finds no files by a module's name, and the setuptools of today has no pkg_resources.
    board_shim.files = lambda _: resources.files("brainflow")
    BoardShim.disable_board_logger()
    number = int(BoardIds[board])
    parameters = BrainFlowInputParams()
    parameters.serial_port = port
    shim = BoardShim(number, parameters)
    shim.prepare_session()
    found: dict[str, ArrayLike] = {}
    try:
        for run in range(runs):
            shim.start_stream()
            time.sleep(seconds)
            shim.stop_stream()
            found[f"run{run}"] = shim.get_board_data()
    finally:
        shim.release_session()
    names = {
        "eeg": BoardShim.get_eeg_channels(number),
        "package": [BoardShim.get_package_num_channel(number)],
    }
    if board.startswith("CYTON"):
        names["accel"] = BoardShim.get_accel_channels(number)
    meaning = {f"rows_{key}": np.array(rows) for key, rows in names.items()}
    np.savez(output, allow_pickle=False, **found, **meaning)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
