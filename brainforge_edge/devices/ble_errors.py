"""What bleak, D-Bus and BlueZ raise, as our errors: the other half of bleak's door.

Runs in: acquire process, thread "ble".
"""

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
)

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices import gatt
from brainforge_edge.devices.ble_adapter import is_blocked
from brainforge_edge.devices.gatt import Target

IN_PROGRESS = "org.bluez.Error.InProgress"
_NOT_READY = "org.bluez.Error.NotReady"
_NOBODY = ("ServiceUnknown", "NameHasNoOwner", "NoReply", "NoServer")
# systemd answers for a unit that is masked or broken with the name of an errno.
_NOT_LOADED = (".FileExists", ".FileNotFound")
_NOT_STARTED = ("org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1.")


def said_by(error: BaseException) -> str:
    """What the library said, as the middle of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def translated(error: Exception, target: Target | None = None) -> DeviceError:
    """What the library raised while it searched or connected, as one of ours."""
    said = said_by(error)
    if isinstance(error, BleakBluetoothNotAvailableError):
        reason = error.reason
        if reason is BleakBluetoothNotAvailableReason.POWERED_OFF:
            return gatt.adapter_off(is_blocked=is_blocked())
        if reason.name.startswith("DENIED"):
            return gatt.not_allowed(said)
        return gatt.no_adapter("there is no Bluetooth adapter that can talk to such devices")
    if isinstance(error, BleakDBusError):
        if error.dbus_error == _NOT_READY:
            return gatt.adapter_off(is_blocked=is_blocked())
        if error.dbus_error == IN_PROGRESS:
            return gatt.adapter_busy("the Bluetooth service is busy with another request")
        is_unstarted = error.dbus_error.startswith(_NOT_STARTED)
        if is_unstarted or error.dbus_error.endswith(_NOBODY + _NOT_LOADED):
            return gatt.no_service(said)
        if error.dbus_error.endswith("AccessDenied"):
            return gatt.not_allowed(said)
    elif isinstance(error, PermissionError):
        return gatt.not_allowed(said)
    elif isinstance(error, OSError | EOFError):
        return gatt.no_service(said)
    elif said.startswith("adapter "):
        return gatt.no_adapter(said)
    return gatt.connect_failed(target or Target("device", ()), said)
