"""A Cyton behind an FTDI adapter: the kernel's ftdi_sio, our udev rules, our unit."""

import pytest

from brainforge_edge.emulators.main import make_source
from tests.guest import account
from tests.guest.guest import Guest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]


def test_the_adapter_hands_bytes_on_after_a_millisecond_and_the_board_streams(guest: Guest) -> None:
    found = guest.run("cyton", timeout_s=180)
    print(found)
    assert found["target"].startswith("/dev/ttyUSB")
    assert found["mode"] == "0o660"
    assert found["latency_ms"] == 1
    assert found["rate"] == pytest.approx(250, rel=0.1)
    (new,), (listed,) = found["new"], found["listed"]
    assert (new["kind"], new["state"]) == ("openbci", "new")
    assert new["identity"] == listed["identity"] == "openbci:usb-DM0TEST1"
    assert (listed["state"], listed["node"]) == ("in use", found["target"])
    assert listed["detail"]["vid"] == "0403"
    rows = account.read(guest.out / "recordings", "cyton-eeg", make_source("cyton", channels=8))
    print(rows)
    assert rows.rows > 250 * 5
    assert rows.differing == 0
    assert rows.duplicates == 0
    assert rows.missing == rows.gaps
