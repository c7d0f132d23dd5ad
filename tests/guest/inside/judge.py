"""BrainFlow's own Muse driver listens to our emulated headset, over real BlueZ. Runs in: the guest."""

import json
from importlib import resources
from typing import Any

import numpy as np
from brainflow import board_shim
from brainflow.board_shim import BoardIds, BoardShim, BrainFlowInputParams

from brainforge_edge.emulators.muse import muse_channels, muse_source
from tests.guest.inside.bedside import until
from tests.guest.inside.bodies import address_of
from tests.guest.inside.kept import say
from tests.guest.inside.radio import radio

MUSE = "muse1"
SPEED = "@0.25"
ENOUGH_ROWS = 240
BOARD = BoardIds.MUSE_2_BOARD


def main() -> dict[str, Any]:
    # Python 3.11 finds no files by a module's name, and the setuptools of today has no pkg_resources.
    board_shim.files = lambda _: resources.files("brainflow")
    BoardShim.disable_board_logger()
    with radio(MUSE + SPEED) as air:
        parameters = BrainFlowInputParams()
        parameters.mac_address = address_of(MUSE)
        parameters.timeout = 60
        board = BoardShim(int(BOARD), parameters)
        board.prepare_session()
        say("prepared")
        try:
            board.start_stream()
            until(lambda: board.get_board_data_count() >= ENOUGH_ROWS, 90, "samples")
            data = board.get_board_data()
            say("heard")
            board.stop_stream()
        finally:
            board.release_session()
        said = air.tell("look", MUSE)["commands"]
        until(lambda: not air.connected(), 20, "the end of the connection")
    return {"commands": said, **_compared(data)}


def _compared(data: Any) -> dict[str, Any]:
    """Its microvolts against those of the rows that were sent; the first packets may lack a channel."""
    numbers = data[BoardShim.get_package_num_channel(int(BOARD))].astype(int)
    heard = data[BoardShim.get_eeg_channels(int(BOARD))].T
    channels = muse_channels()
    scale = np.array([each.scale for each in channels]) * 1e6
    offset = np.array([each.offset for each in channels]) * 1e6
    source = muse_source(seed=int(MUSE[-1]))
    whole = [n for n in np.unique(numbers) if int((numbers == n).sum()) == 12]
    different = 0
    for number in whole[1:]:
        expected = source.rows(int(number) * 12, 12) * scale + offset
        different += int(np.any(np.abs(heard[numbers == number] - expected) > 1e-6, axis=1).sum())
    return {
        "rows": 12 * (len(whole) - 1),
        "different": different,
        "range_uv": [float(heard.min()), float(heard.max())],
    }


if __name__ == "__main__":
    print(json.dumps(main()))
