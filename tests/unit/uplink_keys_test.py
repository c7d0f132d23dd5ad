"""For whom the uplink takes what is sealed: as the desired state says, else the configured file."""

from pathlib import Path

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SealConfig, UplinkConfig
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.recorder.desiredfile import Standing, write_standing
from brainforge_edge.security.desired import SealState, new_desired
from brainforge_edge.uplink.worker import build_pump
from tests.unit.orders_material import desired
from tests.unit.sealed_material import DISK, pair


def built(root: Path, seal: SealConfig) -> None:
    _, cursors = build_pump(
        root, node="bed-1", config=UplinkConfig(), clock=SystemClock(),
        emit=lambda *_: None, seal=seal,
    )  # fmt: skip
    cursors.close()


@pytest.mark.parametrize("file", [None, b"garbage"])
def test_a_file_that_the_desired_state_replaced_keeps_no_uplink_from_starting(
    tmp_path: Path, file: bytes | None
) -> None:
    path = tmp_path / "aggregator.pem"
    if file is not None:
        path.write_bytes(file)
    seal = SealConfig(aggregator=str(path))
    root = tmp_path / "box"
    with pytest.raises(SecurityError, match=r"aggregator\.pem"):
        built(root, seal)
    new = pair(tmp_path / "new", "aggregator")
    state = desired(seal=SealState(aggregator=new.pem.decode()))
    write_standing(root, Standing(new_desired(state), state, None), DISK)
    built(root, seal)
