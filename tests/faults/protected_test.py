"""A device knows of a recording from its beginning to its end, and refuses by itself what would spoil it."""

import json
import signal
from collections.abc import Iterator

import pytest

from tests.faults.box import Box, box_in, check_refusal, cli

DEVICE = 11
OPM_STATE, PROTECTED = 64, 69
COARSE_ZERO, FORCED = 4, 0x80


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with box_in(tmp_path_factory.mktemp("box")) as made:
        made.device("helmet", "opm")
        made.write_config()
        made.emulate("helmet", "opm", more=("--startup-s", "0.5"))
        made.start()
        made.until_streaming("helmet-mag", 20)
        yield made


def register(box: Box, address: int, value: int | None = None) -> "tuple[int, str, str]":
    """(exit status, value or data, what was said) of a read, or of a write past the box's own care."""
    name = "read_register" if value is None else "write_register"
    words = [f"address={address}", "size=1", *([] if value is None else [f"value={value}"])]
    done = cli("device", "helmet", name, *words, "--run", box.run, "--json")
    said = json.loads(done.stdout or done.stderr)
    values = said.get("values", {})
    return done.returncode, str(values.get("data", values.get("value", ""))), json.dumps(said)


def is_protected(box: Box) -> bool:
    return register(box, PROTECTED)[1] == "01"


def test_the_device_itself_refuses_zeroing_from_the_beginning_of_a_recording_to_its_end(
    box: Box,
) -> None:
    assert not is_protected(box)
    box.ask("record", name="night")
    box.until(lambda: is_protected(box), 5, "the helmet's protection")
    status, _, said = register(box, OPM_STATE, COARSE_ZERO)  # nobody but the helmet checks this
    assert status == DEVICE
    assert "wrong state" in said
    check_refusal(cli("device", "helmet", "zero", "--run", box.run), DEVICE, "night")
    assert register(box, OPM_STATE, COARSE_ZERO | FORCED)[0] == 0
    box.until(lambda: register(box, OPM_STATE)[1] == "07", 10, "the end of zeroing")
    assert is_protected(box)
    box.ask("stop")
    box.until(lambda: not is_protected(box), 5, "the end of the protection")
    assert register(box, OPM_STATE, COARSE_ZERO)[0] == 0
    box.until(lambda: register(box, OPM_STATE)[1] == "07", 10, "the end of zeroing")


def test_a_device_that_comes_back_while_it_is_recorded_is_told_again(box: Box) -> None:
    box.ask("record", name="cut")
    box.until(lambda: is_protected(box), 5, "the helmet's protection")
    box.signal("helmet", signal.SIGHUP)  # switched off and on: it knows nothing any more
    box.until(
        lambda: box.worker("acquire:helmet").get("device", {}).get("uptime_s", 99) < 3,
        10,
        "another link",
    )
    box.until_streaming("helmet-mag", 20)
    box.until(lambda: is_protected(box), 5, "the helmet's protection")
    box.ask("stop")
    box.until(lambda: not is_protected(box), 5, "the end of the protection")
