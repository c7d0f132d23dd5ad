"""Start-up, field zeroing and calibration of the emulated helmet. Runs in: emulator process.

Each step takes its share of `startup_s`; real helmets need minutes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.devices.bfp import FORCED, ChannelStatus, OpmState, bits_of
from brainforge_edge.emulators.bfp_registers import BUSY, OUT_OF_RANGE, WRONG_STATE

_SHARES = {
    OpmState.RESTART: 0.3,
    OpmState.LOCKED: 0.05,
    OpmState.LOOP_SET: 0.05,
    OpmState.COARSE_ZERO: 0.25,
    OpmState.FINE_ZERO: 0.25,
    OpmState.CALIBRATE: 0.1,
}
_STEPS = tuple(_SHARES)
_CHAINS = {
    OpmState.RESTART: _STEPS,
    OpmState.COARSE_ZERO: (OpmState.COARSE_ZERO, OpmState.FINE_ZERO),
    OpmState.FINE_ZERO: (OpmState.FINE_ZERO,),
    OpmState.CALIBRATE: (OpmState.CALIBRATE,),
}
_RESTING = frozenset({OpmState.OFF, OpmState.READY, OpmState.FAULT})
_ZEROING = frozenset({OpmState.COARSE_ZERO, OpmState.FINE_ZERO})
_FIELD_PT = {OpmState.COARSE_ZERO: 50.0, OpmState.FINE_ZERO: 2.0}  # what is left behind each
_UNSET_PT = 2_000.0


class OpmMachine:
    """`scales` are T per LSB. A helmet that is not `is_cold` is ready when it boots."""

    def __init__(
        self, scales: list[float], *, seed: int, startup_s: float = 2.0, is_cold: bool = False
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._startup_ns = startup_s * 1e9
        self._is_cold = is_cold
        n = len(scales)
        self._scales = np.array(scales)
        self.calibration: NDArray[Any] = self._scales.astype("<f4")
        self.calibrated_utc_s = 0
        self.next_date_utc_s = 0  # of the next calibration, told by the host
        self.mask = bytearray(b"\xff" * ((n + 7) // 8))
        self.status = np.zeros(n, dtype=np.uint8)
        self.fields_pt = np.zeros(n, dtype="<f4")
        self.is_protected = 0
        self.loop_mode = 1
        self.state = OpmState.OFF
        self._chain: tuple[OpmState, ...] = ()
        self._whole_share = 1.0
        self._step_ends_ns = 0.0
        self._news: list[tuple[OpmState, int, bytes]] = []
        self.boot()

    @property
    def is_zeroing(self) -> bool:
        return self.state in _ZEROING

    def boot(self) -> None:
        """Lasers and coils lose what they had; the calibration is kept."""
        self._chain, self._news = (), []
        self.is_protected = 0
        if self._is_cold:
            self.state = OpmState.OFF
            cold = ChannelStatus.LASER | ChannelStatus.CELL | ChannelStatus.NOT_ZEROED
            self.status[:] = int(cold | ChannelStatus.STALE)
            self.fields_pt[:] = self._field(_UNSET_PT)
        else:
            self.state = OpmState.READY
            self.status[:] = 0
            self.fields_pt[:] = self._field(_FIELD_PT[OpmState.FINE_ZERO])

    def begin(self, value: int, now_ns: int) -> int:
        """What is written to OPM_STATE; an error code, 0 for none."""
        wanted, is_forced = value & ~FORCED, bool(value & FORCED)
        if wanted != OpmState.OFF and wanted not in _CHAINS:
            return OUT_OF_RANGE
        if self.is_protected and not is_forced:
            return WRONG_STATE
        if wanted == OpmState.OFF:
            self._chain = ()
            self._enter(OpmState.OFF, 0)
            return 0
        if self.state not in _RESTING:
            return BUSY
        if wanted != OpmState.RESTART and self.state is not OpmState.READY:
            return WRONG_STATE
        self._chain = _CHAINS[OpmState(wanted)]
        self._whole_share = sum(_SHARES[step] for step in self._chain)
        self._enter_step(now_ns)
        return 0

    def fail(self) -> None:
        self._chain = ()
        self._enter(OpmState.FAULT, 0)

    def advance(self, now_ns: int) -> list[tuple[OpmState, int, bytes]]:
        """(state, percent, bits of the channels that failed) for each change since the last call."""
        while self._chain and now_ns >= self._step_ends_ns:
            self._finish(self._chain[0])
            self._chain = self._chain[1:]
            if self._chain:
                self._enter_step(now_ns)
            else:
                self._enter(OpmState.READY, 100)
        news, self._news = self._news, []
        return news

    def next_due_ns(self) -> int | None:
        return int(self._step_ends_ns) if self._chain else None

    def _enter_step(self, now_ns: int) -> None:
        step = self._chain[0]
        self._step_ends_ns = now_ns + _SHARES[step] * self._startup_ns
        if step in _ZEROING:
            self.status[self._which()] |= int(ChannelStatus.NOT_ZEROED)
        left = sum(_SHARES[s] for s in self._chain)
        self._enter(step, round(100 - 100 * left / self._whole_share))

    def _enter(self, state: OpmState, percent: int) -> None:
        self.state = state
        self._news.append((state, percent, b""))

    def _finish(self, step: OpmState) -> None:
        which = self._which()
        if step is OpmState.RESTART:
            self.status &= ~np.uint8(ChannelStatus.LASER | ChannelStatus.CELL)
        elif step in _FIELD_PT:
            self.fields_pt[which] = self._field(_FIELD_PT[step])[which]
            if step is OpmState.FINE_ZERO:
                self.status[which] &= ~np.uint8(ChannelStatus.NOT_ZEROED)
        elif step is OpmState.CALIBRATE:
            wander = 1 + 0.01 * self._random.standard_normal(len(self._scales))
            self.calibration[which] = (self._scales * wander)[which]
            self.calibrated_utc_s = self.next_date_utc_s
            self.status[which] &= ~np.uint8(ChannelStatus.STALE)

    def _which(self) -> list[int]:
        return bits_of(bytes(self.mask), len(self.status))

    def _field(self, spread_pt: float) -> NDArray[Any]:
        return (self._random.standard_normal(len(self.status)) * spread_pt).astype("<f4")
