"""Bluetooth with everything real but the air: the kernel's stack, bluetoothd, D-Bus, bleak.

Headsets send at an eighth or a quarter of their rates: an emulated machine does not carry more. What
is asserted is that nothing is lost or wrong; times are asserted where ten seconds leave room for them.
"""

import json
from typing import Any

import pytest

from brainforge_edge.emulators.muse import muse_source
from tests.guest import account
from tests.guest.guest import Guest
from tests.guest.inside.bodies import GANGLION, address_of, name_of

pytestmark = [pytest.mark.guest, pytest.mark.timeout(420)]
FOUR = ("muse1", "muse2", "muse3", "muse4")
BACK_S = 10.0


@pytest.mark.long  # five at once are more than a slow core emulates: back in 17 to 35 s, links that break
def test_headsets_stream_at_once_come_back_and_two_of_one_name_are_refused(guest: Guest) -> None:
    found = guest.run("many", timeout_s=300)
    print(json.dumps(found))
    everyone = (*FOUR, "muse5", GANGLION)
    assert found["scan"] == {address_of(each): name_of(each) for each in everyone}
    assert found["ambiguous"]["code"] == "device.ambiguous"
    assert address_of("muse4") in found["ambiguous"]["said"]
    assert address_of("muse5") in found["ambiguous"]["said"]
    assert sorted(found["connected"]) == sorted(address_of(each) for each in (*FOUR, GANGLION))
    for name, one in found["accounts"].items():
        assert one["rows"] >= 12 * 8
        assert one["incarnations"] == (2 if name in found["back_s"] else 1)
    assert max(found["back_s"].values()) <= BACK_S
    nothing_lost(found)
    assert found["last_commands"] == ["h"] * 4


@pytest.mark.long  # a minute, of the six that the guest may take
def test_a_muse_and_a_ganglion_that_were_dropped_or_away_come_back(guest: Guest) -> None:
    found = guest.run("dropouts", timeout_s=300)
    print(json.dumps(found))
    drop = found["drop"]
    assert drop["muse1_back_s"] <= BACK_S
    assert drop["ganglion_back_s"] <= BACK_S
    assert drop["found_again_s"] <= BACK_S
    assert drop["others_meanwhile"] > 0
    nothing_lost(found)


@pytest.mark.long  # a minute, of the six that the guest may take
def test_a_radio_that_was_off_or_blocked_is_told_with_its_remedy_and_comes_back(
    guest: Guest,
) -> None:
    found = guest.run("dropouts", "radio", timeout_s=300)
    print(json.dumps(found))
    for code, remedy in (
        ("adapter_off", "bluetoothctl power on"),
        ("adapter_blocked", "rfkill unblock bluetooth"),
        ("no_bluetooth", "systemctl start bluetooth"),
    ):
        told = found["radio"][code]
        for said in (*told["said"].values(), told["scan"]["said"]):
            assert len(said.splitlines()) == 1
            assert remedy in said
        assert told["scan"]["code"] == f"device.{code}"
    nothing_lost(found)


def nothing_lost(found: dict[str, Any]) -> None:
    for one in found["accounts"].values():
        assert one["rows"] > 0
        assert (one["differing"], one["lost"]) == (0, 0)
    assert found["left"] == []


def test_the_box_records_a_headset_frees_it_after_a_kill_and_leaves_it_disconnected(
    guest: Guest,
) -> None:
    found = guest.run("night", timeout_s=360)
    print(json.dumps(found))
    muse = [address_of("muse1")]
    assert found["connected"] == muse
    assert found["left_by_the_killed"] == muse
    assert found["left"] == []
    assert found["commands"][-1] == "h"
    rows = account.read(guest.out / "recordings", "muse-eeg", muse_source(seed=1))
    print(rows)
    assert rows.rows > 256
    assert (rows.differing, rows.missing) == (0, 0)
    assert 2 <= rows.incarnations <= found["runs"]  # a start may end before a row came of it
    assert rows.gaps > 0  # between the two


def test_brainflows_own_driver_hears_what_our_headset_sends(guest: Guest) -> None:
    found = guest.run("judge", timeout_s=300)
    print(json.dumps(found))
    assert found["rows"] >= 120
    assert found["different"] == 0
    assert "d" in found["commands"]
