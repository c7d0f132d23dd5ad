"""A USB device made by the kernel itself: dummy_hcd and a CDC-ACM gadget. Runs in: the guest."""

import contextlib
from pathlib import Path

from tests.guest.inside.bedside import sh, until

DEVICE_SIDE = Path("/dev/ttyGS0")
_GADGET = Path("/sys/kernel/config/usb_gadget/helmet")
_CONTROLLER = "dummy_udc.0"


class Gadget:
    """One helmet at a high-speed port; `pull` and `plug` do what a hand does to the cable."""

    def __init__(self, *, serial: str, product: int = 0xBF01) -> None:
        self.host_side = Path(f"/dev/brainforge/opm-{serial}")
        if not _GADGET.is_dir():
            sh("modprobe", "dummy_hcd", "is_super_speed=0")
            sh("modprobe", "libcomposite")
            self._describe(serial, product)
        until(DEVICE_SIDE.exists, 10, str(DEVICE_SIDE))

    def _describe(self, serial: str, product: int) -> None:
        _GADGET.mkdir()
        (_GADGET / "idVendor").write_text("0x1209")
        (_GADGET / "idProduct").write_text(hex(product))
        words = _GADGET / "strings" / "0x409"
        words.mkdir()
        (words / "serialnumber").write_text(serial)
        (words / "manufacturer").write_text("brainforge")
        (words / "product").write_text("OPM helmet")
        (_GADGET / "configs" / "c.1").mkdir()
        (_GADGET / "functions" / "acm.0").mkdir()
        (_GADGET / "configs" / "c.1" / "acm.0").symlink_to(_GADGET / "functions" / "acm.0")

    def plug(self) -> None:
        (_GADGET / "UDC").write_text(_CONTROLLER)

    def pull(self) -> None:
        with contextlib.suppress(OSError):  # it was not plugged in
            (_GADGET / "UDC").write_text("\n")
