"""Whether the device that answers is the one that was bound to this name.

Runs in: acquire process; `trust` in the pull thread, `heard` and `close` in main.
"""

import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.config import DeviceConfig
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.identity import identity_of, is_named, judge
from brainforge_edge.core.stream import DeviceInfo
from brainforge_edge.devices.udev import port_at

ANSWER_S = 5.0  # the supervisor answers from its memory
_PLACES = ("port", "name", "stream", "type")


class Binding:
    """Of one device; `send` may be called by any thread."""

    def __init__(
        self,
        device: DeviceConfig,
        bound: Mapping[str, str],
        *,
        send: Callable[[ipc.Message], None],
    ) -> None:
        self._device = device
        self._send = send
        self._news = threading.Condition()  # guards what follows
        self._bound = dict(bound)
        self._is_closed = False
        self._refused = ""  # told already: a device that is refused comes back every two seconds
        self.identity = ""  # of the device that is trusted now, or was last

    def trust(self, info: DeviceInfo | None) -> None:
        """Nothing if who answers is who is meant. DeviceError `new_identity`, `identity_taken`,
        `binding_unanswered`."""
        self.identity = ""  # the link was made anew
        identity = self._identity(info)
        try:
            is_new = self._judge(identity)
            self._tell(identity, info, binds=is_new)
            if is_new:
                self._wait_for(identity)
            with self._news:
                self._judge(identity)
                self.identity, self._refused = identity, ""
        except DeviceError as error:
            if error.code != "device.binding_unanswered":
                self._tell_refused(identity, info, error)
            raise

    def heard(self, message: ipc.Bound) -> bool:
        """What holds from now on; False if the device that is trusted is no longer meant."""
        with self._news:
            self._bound = dict(message.bound)
            self._news.notify_all()
            is_meant = not self.identity or self._may_stay(self.identity)
            if not is_meant:
                self.identity = ""
        return is_meant

    def close(self) -> None:
        """A waiting `trust` ends with an error."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def _judge(self, identity: str) -> bool:
        with self._news:
            named = is_named(self._device.settings)
            return judge(self._device.name, identity, self._bound, is_named=named)

    def _may_stay(self, identity: str) -> bool:
        try:
            self._judge(identity)
        except DeviceError:
            return False
        return True

    def _wait_for(self, identity: str) -> None:
        """The supervisor decides: another worker may have met the same device just now."""
        with self._news:
            until = time.monotonic() + ANSWER_S
            while self._judge(identity):
                left = until - time.monotonic()
                if left <= 0 or self._is_closed:
                    raise _unanswered(self._device.name)
                self._news.wait(left)

    def _identity(self, info: DeviceInfo | None) -> str:
        settings = self._device.settings
        place = next((str(settings[key]) for key in _PLACES if settings.get(key)), "")
        port = port_at(str(settings.get("port", "")))
        return identity_of(
            self._device.kind,
            info,
            place=place or self._device.name,
            adapter_serial=port.serial if port is not None else "",
        )

    def _tell(
        self, identity: str, info: DeviceInfo | None, *, binds: bool = False, refused: bool = False
    ) -> None:
        self._send(
            ipc.Answered(
                device=self._device.name,
                kind=self._device.kind,
                link=link_of(self._device),
                identity=identity,
                info=msgspec.to_builtins(info) if info is not None else {},
                binds=binds,
                is_refused=refused,
            )
        )

    def _tell_refused(self, identity: str, info: DeviceInfo | None, error: DeviceError) -> None:
        if self._refused == identity:
            return
        self._refused = identity
        self._tell(identity, info, refused=True)
        data = {"device": self._device.name, "code": error.code, "why": error.why}
        data |= {key: str(value) for key, value in error.facts.items()}
        self._send(ipc.Event(event_type=EventType.DEVICE_REFUSED, data=data))


def link_of(device: DeviceConfig) -> str:
    """tcp, udp, lsl, ble or serial, as the settings tell."""
    port = device.settings.get("port")
    if isinstance(port, str) and port:
        scheme, separator, _ = port.partition("://")
        return scheme if separator else "serial"
    return "lsl" if device.kind == "lsl" else "ble"


def _unanswered(name: str) -> DeviceError:
    return DeviceError(
        "binding_unanswered",
        f"{name} is not trusted yet",
        why="the daemon did not say whether the device may have this name",
        remedy="Nothing needs to be done: it is tried again by itself",
        transient=True,
    )
