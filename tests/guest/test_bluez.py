"""Bluetooth with everything real but the air: the kernel's stack, bluetoothd, D-Bus, bleak."""

import pytest

from tests.guest.guest import Guest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]


def test_a_peripheral_is_found_heard_without_loss_dropped_and_found_again(guest: Guest) -> None:
    found = guest.run("bluez", timeout_s=150)
    print(found)
    assert found["first"]["heard"] > 10
    assert found["first"]["lost"] == 0
    assert found["first"]["dropped"]
    assert found["second"]["heard"] > 10
    assert found["second"]["lost"] == 0
