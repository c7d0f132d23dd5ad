"""The examples of docs/codec.md as the program makes them: bodies, and what the plain reader sees in them."""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import Dtype
from tests.unit import codec_oracle
from tests.unit.codec_oracle import PAGES, Decoder, Trace

A = (100, 109, 117, 124, 129, 132, 133, 131, 128, 123, 116, 108, 99, 90, 81, 73, 66, 61, 58, 57)
B = (50, 69, 83, 98, 108, 115, 116, 111, 106, 96, 83, 66, 48, 29, 12, -3, -18, -28, -35, -36)


def congruent() -> list[int]:
    z, values = 1, []
    for _ in range(48):
        z = (1103515245 * z + 12345) % 2**31
        values.append((z >> 21) - 512)
    return values


def columns(dtype: str, *values: Iterable[float]) -> NDArray[np.generic]:
    return np.array([list(column) for column in values], dtype).T.copy()


ROWS = {
    "form0": (Dtype.I16, columns("<i2", (1, 32767), (-1, -32768))),
    "constant": (Dtype.I16, columns("<i2", (-3,) * 4)),
    "verbatim": (Dtype.I16, columns("<i2", (7,) * 5, (-1758, 774, 16721, 29520, -30484))),
    "palette": (Dtype.I16, columns("<i2", (0, 0, 0, 5, 5, 5, 5, 0, 0, 0, 0, 0))),
    "f64": (Dtype.F64, columns("<f8", (1.0,) * 3, (-2.5,) * 3)),
    "predicted": (Dtype.I16, columns("<i2", A, B)),
    "neighbour": (
        Dtype.I16,
        columns("<i2", congruent(), [3 * v + t % 5 for t, v in enumerate(congruent())]),
    ),
}


def block(kind: str, name: str, page: str = "codec.md") -> str:
    """The text of a fenced block of a page."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.search(rf"```{kind} {name}\n(.*?)```", text, re.DOTALL)
    assert found, f"no {kind} {name}"
    return found[1]


def as_hex(data: bytes) -> str:
    return "".join(data[at : at + 16].hex(" ") + "\n" for at in range(0, len(data), 16))


def as_rows(rows: NDArray[np.generic]) -> str:
    return "".join(
        f"{c}: " + " ".join(str(v) for v in rows[:, c].tolist()) + "\n"
        for c in range(rows.shape[1])
    )


def as_trace(trace: Trace, *, is_brief: bool = False) -> str:
    """Heads and solutions, and the rows unless `is_brief`."""
    lines = []
    for step in trace:
        if "c" in step:
            column = step["c"]
            lines.append(
                f"column {column}: x[0] {step['x0']}, donor {step['donor']}, shift {step['shift']}, "
                f"level_shift {step['level_shift']}, shape {step['shape']}, rate {step['rate']}, "
                f"neighbours {step['near']}"
            )
        if "w" in step:
            solved = "before row 1" if "c" in step else f"after row {step['t']}"
            lines.append(f"  w {solved}: " + " ".join(str(v) for v in step["w"]))
        elif not is_brief:
            lines.append(
                f"  t {step['t']:2d}  mean {step['mean']:6d}  s {step['s']:4d}  x {step['x']:4d}  "
                f"u {step['u']:5d}  power {step['power']:6d}  scale {step['scale']:5d}"
            )
    return "\n".join(lines) + "\n"


class Watched(Decoder):
    """Notes the coder's state after each symbol."""

    def __init__(self, data: bytes) -> None:
        self.lines: list[str] = []
        super().__init__(data)
        self._note("start")

    def take(self, cum: int, freq: int, total: int) -> None:
        super().take(cum, freq, total)
        self._note(f"take({cum}, {freq}, {total})")

    def _note(self, what: str) -> None:
        self.lines.append(f"{what:14s} code {self.code:016x}  range {self.range:016x}")


def coder_states(code: bytes, bits: int, n: int, channels: int) -> str:
    watched = Watched(code)
    codec_oracle.columns_of(watched, bits, n, channels)
    return "\n".join(watched.lines) + "\n"
