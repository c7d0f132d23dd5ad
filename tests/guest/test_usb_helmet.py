"""A helmet on a real USB cable: the kernel's cdc_acm, our udev rules, our unit."""

import json

import pytest

from brainforge_edge.emulators.main import make_source
from tests.guest import account
from tests.guest.guest import Guest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(420)]
# All channels, at a rate that an emulated machine sustains on two shared cores.
CHANNELS, SFREQ = 306, 200


def test_a_pulled_cable_is_a_named_gap_and_every_other_row_is_the_helmets(guest: Guest) -> None:
    found = guest.run("helmet", str(CHANNELS), str(SFREQ), timeout_s=240)
    print(json.dumps(found))
    node = found["node"]
    assert node["target"].startswith("/dev/ttyACM")
    assert (node["mode"], node["group"]) == ("0o660", "dialout")
    assert any(link.startswith("/dev/brainforge/by-path/") for link in node["links"])
    assert ":brainforge:" in node["tags"]
    assert node["ignored_by_modem_manager"]
    assert found["lost_s"] <= 1.0
    assert found["back_s"] <= 5.0

    assert found["rate"] == pytest.approx(SFREQ, rel=0.05)
    assert found["rate_after"] == pytest.approx(SFREQ, rel=0.05)

    source = make_source("opm", channels=CHANNELS)
    rows = account.read(guest.out / "recordings", "helmet-mag", source)
    ledger = json.loads((guest.out / "helmet.json").read_text())
    print(rows, {k: ledger[k] for k in ("emitted", "dropped")})
    assert ledger["final"]
    assert rows.differing == 0
    assert rows.duplicates == 0
    assert rows.incarnations == 1
    assert rows.missing == rows.gaps > 0
