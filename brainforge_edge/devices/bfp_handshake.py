"""Who answers on a port, and whether it is who was meant.

Runs in: acquire process, pull thread, during `open`.
"""

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.bfp import WHO_AM_I, Descriptor, PayloadType, Register
from brainforge_edge.devices.bfp_registers import Registers


def check_identity(registers: Registers, wanted: int, noun: str, port: str) -> None:
    """DeviceError `wrong_device` names what answers instead."""
    identity = registers.read_number(Register.WHO_AM_I, PayloadType.U16)
    if identity != wanted:
        known = WHO_AM_I.get(identity, "unknown device")
        raise DeviceError(
            "wrong_device",
            f"{port} is not the {noun}",
            why=f"an {known} (0x{identity:04X}) answers there",
            remedy=f"Connect the {noun} there, or correct `port` or `kind`",
            transient=True,
            answered=f"0x{identity:04X}",
        )


def check_serial(descriptor: Descriptor, wanted: str, noun: str, port: str) -> None:
    """DeviceError `wrong_device` if another one of the same kind answers; "" takes any."""
    if wanted and descriptor.serial_number != wanted:
        raise DeviceError(
            "wrong_device",
            f"{port} is not the {noun} that is expected",
            why=f"{descriptor.serial_number!r} answers there, {wanted!r} is expected",
            remedy="Connect the right one, or correct `serial_number`",
            transient=True,
            answered=descriptor.serial_number,
        )


def no_time(device: str, tries: int) -> DeviceError:
    return DeviceError(
        "no_answer",
        f"{device} does not tell its time",
        why=f"{tries} questions were left without an answer",
        remedy="Switch the device off and on",
        transient=True,
    )
