"""Who a device is, and who may answer under a name."""

import pytest

from brainforge_edge.core.config import parse
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.identity import identity_of, is_proven, judge
from brainforge_edge.core.stream import DeviceInfo


@pytest.mark.parametrize(
    ("kind", "info", "adapter_serial", "identity"),
    [
        ("opm", DeviceInfo("OPM helmet", "BF-0042"), "", "opm:BF-0042"),
        ("muse", DeviceInfo("Muse", "2010-AAAA", address="00:55:da:b0:01:02"), "",
         "muse:00:55:DA:B0:01:02"),
        ("openbci", DeviceInfo("OpenBCI Cyton"), "DM00TEST", "openbci:usb-DM00TEST"),
        ("openbci", DeviceInfo("OpenBCI Cyton"), "", "openbci:@/dev/cap"),
        ("openbci", None, "", "openbci:@/dev/cap"),
        ("lsl", DeviceInfo("EyeLink", "eye-1"), "", "lsl:eye-1/EyeLink"),
        # What pylsl makes up for a program that gives no source id is another one at each start.
        ("lsl", DeviceInfo("EyeLink", "-4302985398246732907"), "", "lsl:@/dev/cap"),
        ("opm", DeviceInfo("OPM helmet", "a b\n\x1b[2J"), "", "opm:a_b__[2J"),
    ],
)  # fmt: skip
def test_an_identity_is_the_best_proof_that_there_is(
    kind: str, info: DeviceInfo | None, adapter_serial: str, identity: str
) -> None:
    found = identity_of(kind, info, place="/dev/cap", adapter_serial=adapter_serial)
    assert found == identity
    assert is_proven(found) == ("@" not in found)


def test_an_identity_that_a_device_tells_stays_short() -> None:
    assert len(identity_of("opm", DeviceInfo("OPM helmet", "9" * 10_000), place="")) < 200


def test_the_first_that_answers_is_taken_and_another_one_refused() -> None:
    assert judge("hat", "accel_hat:1", {})
    assert not judge("hat", "accel_hat:1", {"hat": "accel_hat:1"})
    with pytest.raises(DeviceError, match="Put the old one back, or accept") as refused:
        judge("hat", "accel_hat:2", {"hat": "accel_hat:1"})
    assert refused.value.code == "device.new_identity"
    assert refused.value.facts == {"expected": "accel_hat:1", "answered": "accel_hat:2"}


def test_one_that_proves_nothing_refuses_nobody_and_replaces_no_proof() -> None:
    assert judge("cap", "openbci:usb-1", {"cap": "openbci:@/dev/cap"})
    assert judge("cap", "openbci:@/dev/b", {"cap": "openbci:@/dev/a"})
    with pytest.raises(DeviceError, match="one that proves no identity"):
        judge("cap", "openbci:@/dev/cap", {"cap": "openbci:usb-1"})


def test_one_device_has_one_name_and_the_settings_are_a_persons_word() -> None:
    bound = {"left": "accel_hat:1", "right": "accel_hat:2"}
    with pytest.raises(DeviceError, match="devices forget left") as refused:
        judge("right", "accel_hat:1", bound, is_named=True)
    assert refused.value.code == "device.identity_taken"
    assert judge("right", "accel_hat:3", bound, is_named=True)
    assert judge("right", "openbci:@/dev/x", {"left": "openbci:@/dev/x"})


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ('kind = "opm"\nsettings = {{ port = "/a", serial_number = "7" }}',
         'kind = "opm"\nsettings = {{ port = "/b", serial_number = "7" }}', True),
        ('kind = "opm"\nsettings = {{ port = "/a", serial_number = "7" }}',
         'kind = "fnirs"\nsettings = {{ port = "/b", serial_number = "7" }}', False),
        ('kind = "muse"\nsettings = {{ address = "00:55:DA:B0:01:02" }}',
         'kind = "muse"\nsettings = {{ address = "00:55:da:b0:01:02" }}', True),
        ('kind = "lsl"\nsettings = {{ stream = "a", source_id = "x" }}',
         'kind = "lsl"\nsettings = {{ stream = "b", source_id = "x" }}', False),
    ],
)  # fmt: skip
def test_two_devices_of_one_identity_are_refused_in_the_configuration(
    first: str, second: str, is_refused: bool
) -> None:
    text = "".join(
        f'[[device]]\nname = "d{n}"\n{device.format()}\n'
        for n, device in enumerate((first, second))
    )
    text = '[node]\nid = "box"\n' + text
    if not is_refused:
        parse(text)
        return
    with pytest.raises(ConfigError, match="have the same") as refused:
        parse(text)
    assert refused.value.code == "config.shared_identity"
