"""The three devices of ours, emulated: helmet, optical helmet, hat. Runs in: emulator process."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from brainforge_edge.devices.bfp import Register
from brainforge_edge.emulators.bfp_device import BfpDevice
from brainforge_edge.emulators.bfp_stream import EmulatedStream
from brainforge_edge.emulators.faults import Faults
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.opm_machine import OpmMachine
from brainforge_edge.emulators.source import PulseTrain, RowSource

I24, F32 = 0x03, 0x14
HELMET_SAMPLES, OPTICAL_SAMPLES, HAT_SAMPLES = 8, 1, 20  # a frame
_LED_POWER, _DETECTOR_GAIN = 128, 16


class Circumstances(NamedTuple):
    """What all kinds take. `speed` is announced by the device, `rate_error` is not."""

    ledger: Ledger
    random: Callable[[int], bytes]
    now_ns: int
    speed: float = 1.0
    fifo_s: float = 1.0
    rate_error: float = 0.0
    pulses: PulseTrain | None = None
    faults: Faults | None = None
    serial_number: str = ""  # the kind's own otherwise


def helmet(
    source: RowSource,
    around: Circumstances,
    *,
    serial_number: str = "BF-OPM-EMU-1",
    identity: int = 0xBF01,
    startup_s: float = 2.0,
    is_cold: bool = False,
) -> BfpDevice:
    """An OPM helmet with one stream. `identity` is for tests of a wrong device on the port."""
    stream = EmulatedStream(
        1,
        "mag",
        source,
        form=I24,
        sfreq=source.sfreq * around.speed,
        ledger=around.ledger,
        pulses=around.pulses,
        has_words=around.pulses is not None,
    )
    scales = [channel.scale for channel in source.channels]
    return BfpDevice(
        [stream],
        kind="opm",
        identity=identity,
        ledger=around.ledger,
        random=around.random,
        now_ns=around.now_ns,
        serial_number=around.serial_number or serial_number,
        frame_samples=HELMET_SAMPLES,
        fifo_s=around.fifo_s,
        rate_error=around.rate_error,
        machine=OpmMachine(scales, seed=1, startup_s=startup_s, is_cold=is_cold),
        faults=around.faults,
    )


def optical(flow: RowSource, flux: RowSource, around: Circumstances) -> BfpDevice:
    """An optical helmet: the same optodes in both of its streams."""
    details = [channel.detail for channel in flow.channels]
    sources = {detail.source for detail in details if detail}
    detectors = {detail.detector for detail in details if detail}
    return _of_several(
        [("flow", flow), ("flux", flux)],
        around,
        kind="fnirs",
        identity=0xBF02,
        form=F32,
        frame_samples=OPTICAL_SAMPLES,
        arrays={
            Register.LED_POWER: bytearray([_LED_POWER] * len(sources)),
            Register.DETECTOR_GAIN: bytearray([_DETECTOR_GAIN] * len(detectors)),
        },
    )


def hat(sensors: Sequence[RowSource], around: Circumstances) -> BfpDevice:
    """A hat with a stream for each sensor."""
    return _of_several(
        [(f"acc{number}", source) for number, source in enumerate(sensors, 1)],
        around,
        kind="accel_hat",
        identity=0xBF03,
        form=I24,
        frame_samples=HAT_SAMPLES,
        arrays={},
    )


def _of_several(
    named: list[tuple[str, RowSource]],
    around: Circumstances,
    *,
    kind: str,
    identity: int,
    form: int,
    frame_samples: int,
    arrays: dict[int, bytearray],
) -> BfpDevice:
    streams = [
        EmulatedStream(
            number,
            name,
            source,
            form=form,
            sfreq=source.sfreq * around.speed,
            ledger=around.ledger.of(
                name, n_channels=len(source.channels), loop_rows=source.loop_rows
            ),
            pulses=around.pulses,
        )
        for number, (name, source) in enumerate(named, 1)
    ]
    return BfpDevice(
        streams,
        kind=kind,
        identity=identity,
        ledger=around.ledger,
        random=around.random,
        now_ns=around.now_ns,
        serial_number=around.serial_number or f"BF-{kind.upper().replace('_', '-')}-EMU-1",
        frame_samples=frame_samples,
        fifo_s=around.fifo_s,
        rate_error=around.rate_error,
        arrays=arrays,
        faults=around.faults,
    )
