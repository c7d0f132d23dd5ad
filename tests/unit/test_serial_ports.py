"""Ports as a made-up udev database and sysfs describe them; nothing is opened."""

from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices import discover
from brainforge_edge.devices.discover import Search, guess, look
from brainforge_edge.devices.udev import Roots, port_at, serial_ports


class Machine:
    """Folders as a kernel and udev fill them."""

    def __init__(self, root: Path) -> None:
        self.roots = Roots(sys=root / "sys", udev=root / "udev", dev=root / "dev")
        for folder in (self.roots.sys / "class" / "tty", self.roots.udev / "data", self.roots.dev):
            folder.mkdir(parents=True)
        self._n = 0

    def plug(
        self,
        name: str,
        *,
        vid: str = "",
        pid: str = "",
        serial: str = "",
        product: str = "",
        properties: dict[str, str] | None = None,
        links: tuple[str, ...] = (),
        is_adapter: bool = False,
    ) -> None:
        self._n += 1
        tty = self.roots.sys / "class" / "tty" / name
        tty.mkdir()
        (tty / "dev").write_text(f"188:{self._n}\n")
        usb = self.roots.sys / "devices" / "usb1" / f"1-{self._n}"
        interface = usb / f"1-{self._n}:1.0" / (name if is_adapter else "")
        interface.mkdir(parents=True)
        (tty / "device").symlink_to(interface)
        words = {"idVendor": vid, "idProduct": pid, "serial": serial, "product": product}
        for key, value in words.items():
            if value:
                (usb / key).write_text(value + "\n")
        if properties is not None or links:
            lines = [f"S:{link}" for link in links]
            lines += [f"E:{key}={value}" for key, value in (properties or {}).items()]
            path = self.roots.udev / "data" / f"c188:{self._n}"
            path.write_text("I:12345\n" + "\n".join(lines) + "\n")
        (self.roots.dev / name).touch()
        for link in links:
            (self.roots.dev / link).parent.mkdir(parents=True, exist_ok=True)
            (self.roots.dev / link).symlink_to(self.roots.dev / name)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_helmet_is_known_by_what_udev_says_and_called_by_our_lasting_name(
    machine: Machine,
) -> None:
    machine.plug(
        "ttyACM0",
        vid="1209",
        pid="bf01",
        properties={
            "ID_VENDOR_ID": "1209", "ID_MODEL_ID": "bf01", "ID_SERIAL_SHORT": "BF-0042",
            "ID_VENDOR": "Brainforge", "ID_MODEL": "OPM_helmet", "BRAINFORGE_KIND": "opm",
        },
        links=("serial/by-id/usb-x-if00", "brainforge/by-path/p1", "brainforge/opm-BF-0042"),
    )  # fmt: skip
    (seen,), troubles = look(Search(links=("serial",)), clock=SystemClock(), roots=machine.roots)
    assert not troubles
    assert seen.address == str(machine.roots.dev / "brainforge/opm-BF-0042")
    assert seen.node == str(machine.roots.dev / "ttyACM0")
    assert (seen.kind, seen.basis, seen.identity) == ("opm", "USB 1209:bf01", "opm:BF-0042")
    assert (seen.name, seen.alive) == ("Brainforge OPM helmet", "plugged in")
    assert seen.detail["vid"] == "1209"
    assert seen.detail["links"].endswith("by-path/p1")
    (port,) = serial_ports(machine.roots)
    assert port_at(seen.address, machine.roots) == port


def test_a_dongle_is_a_guess_that_says_what_it_rests_on_also_without_udev(
    machine: Machine,
) -> None:
    machine.plug(
        "ttyUSB0", vid="0403", pid="6015", serial="DM0TEST1", product="FT231X", is_adapter=True
    )
    (seen,), _ = look(Search(links=("serial",)), clock=SystemClock(), roots=machine.roots)
    assert (seen.kind, seen.identity) == ("openbci", "openbci:usb-DM0TEST1")
    assert "adapter as an OpenBCI dongle has (USB 0403:6015)" in seen.basis
    assert (seen.name, seen.address) == ("FT231X", seen.node)


def test_what_nobody_knows_is_listed_without_a_kind(machine: Machine) -> None:
    machine.plug("ttyACM3", vid="2341", pid="0043", serial="7543")
    machine.plug("ttyAMA0")
    machine.plug("tty1")
    ports = serial_ports(machine.roots)
    assert [(Path(p.node).name, *guess(p)) for p in ports] == [
        ("ttyACM3", "", "USB 2341:0043"),
        ("ttyAMA0", "", "a port without a USB description"),
    ]
    sightings, _ = look(Search(links=("serial",)), clock=SystemClock(), roots=machine.roots)
    assert [seen.identity for seen in sightings] == ["usb:usb-7543", ""]


@pytest.mark.parametrize("text", ["E:ID_MODEL\nS:\nE:=\n\0\xff", "E:ID_MODEL=\x1b[2J" + "x" * 9999])
def test_a_damaged_database_spoils_no_list(machine: Machine, text: str) -> None:
    machine.plug("ttyACM0", vid="1209", pid="bf03", serial="7", properties={})
    (machine.roots.udev / "data" / "c188:1").write_text(text, encoding="latin-1")
    (port,) = serial_ports(machine.roots)
    assert guess(port)[0] == "accel_hat"
    assert port.product.isprintable()
    assert len(port.product) <= 128


def test_a_machine_without_serial_ports_has_none(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert serial_ports(roots) == []
    assert port_at("tcp://127.0.0.1:1", roots) is None
    assert port_at("", roots) is None
    assert port_at("/dev/null", roots) is None


@pytest.mark.parametrize("in_use", [True, False])
def test_a_port_is_opened_only_on_request_and_never_the_daemons(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, in_use: bool
) -> None:
    machine.plug("ttyACM0", vid="1209", pid="bf01", serial="7", links=("brainforge/opm-7",))
    asked: list[str] = []

    def ask(port: str, *_: Any, **__: Any) -> None:
        asked.append(port)
        raise DeviceError("no_answer", "nothing", why="it is silent", remedy="None")

    monkeypatch.setattr(discover, "ask", ask)
    port = str(machine.roots.dev / "brainforge/opm-7")
    search = Search(links=("serial",), in_use=frozenset({port} if in_use else set()))
    look(search, clock=SystemClock(), roots=machine.roots)
    assert not asked
    (seen,), _ = look(search._replace(probe=True), clock=SystemClock(), roots=machine.roots)
    assert asked == ([] if in_use else [port])
    assert seen.alive == ("plugged in" if in_use else "no answer: it is silent")


def test_a_probe_of_what_is_no_port_is_told_in_its_row(machine: Machine) -> None:
    machine.plug("ttyACM0", vid="1209", pid="bf01", serial="7")
    (seen,), troubles = look(
        Search(links=("serial",), probe=True), clock=SystemClock(), roots=machine.roots
    )
    assert seen.alive == "no answer: it is not a serial device"
    assert not troubles
