"""Counters that wrap, turned into absolute ones."""


class Unwrap:
    """Absolute count of a counter that wraps at `modulus`; steps backwards are taken as a wrap."""

    def __init__(self, modulus: int) -> None:
        self.modulus = modulus
        self.value: int | None = None

    def step(self, raw: int) -> int:
        """Samples from the last reading to this one (1 = no loss), in 1..modulus."""
        if self.value is None:
            self.value = raw
            return 1
        step = (raw - self.value) % self.modulus or self.modulus
        self.value += step
        return step

    def restart(self) -> None:
        self.value = None
