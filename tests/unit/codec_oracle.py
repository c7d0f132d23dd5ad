"""Reader of lossless bodies written from docs/codec.md alone: plain Python, slow, the kernel's oracle."""

import re
from collections.abc import Callable
from math import isqrt
from pathlib import Path
from typing import Any

import brainforge_edge

PAGES = Path(brainforge_edge.__file__).parent / "docs"
SHAPES = [
    [int(v) for v in table.split()]
    for table in re.findall(
        r"```shape \d\n(.*?)```", (PAGES / "shapes.md").read_text(encoding="utf-8"), re.DOTALL
    )
]
MODES = ("OLS",) * 13 + ("CONSTANT", "VERBATIM", "PALETTE")
RATES = (7, 6, 5, 4)
Trace = list[dict[str, Any]]


class Refused(ValueError):
    """The body is damaged."""


def refuse_if(wrong: bool) -> None:
    if wrong:
        raise Refused


def wrap(v: int) -> int:
    """64 bits, two's complement."""
    return (v + 2**63) % 2**64 - 2**63


def up(v: int, by: int) -> int:
    """`<<`, to the right where `by` is negative."""
    return wrap(v << by) if by >= 0 else v >> -by


def limited(v: int, low: int, top: int) -> int:
    return max(low, min(top, v))


def clip(v: int) -> int:
    return limited(v, -8191, 8191)


def unzigzag(z: int) -> int:
    return z // 2 if z % 2 == 0 else -(z // 2) - 1


class Decoder:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.code, self.range = data, 0, 0, 2**64 - 1
        self._read(8)

    def _read(self, n: int) -> None:
        for _ in range(n):
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.code = (self.code << 8 | byte) % 2**64
            self.at += 1

    def target(self, total: int) -> int:
        return min(self.code // (self.range >> total), (1 << total) - 1)

    def take(self, cum: int, freq: int, total: int) -> None:
        r = self.range >> total
        self.code -= r * cum
        self.range = r * freq
        while self.range < 2**32:
            self._read(4)
            self.range <<= 32

    def bits(self, n: int) -> int:
        if n > 16:
            return self.bits(n - 16) << 16 | self.bits(16)
        if n == 0:
            return 0
        v = self.target(n)
        self.take(v, 1, n)
        return v

    def golomb(self, k: int) -> int:
        m = k
        while self.bits(1):
            m += 1
            refuse_if(m > 40)
        low = self.bits(m - 32) << 32 | self.bits(32) if m > 32 else self.bits(m)
        return (1 << m | low) - (1 << k)

    def adaptive(self, p: list[int], i: int) -> int:
        if self.target(16) < p[i]:
            self.take(0, p[i], 16)
            p[i] += (65471 - p[i]) >> 4
            return 1
        self.take(p[i], 65536 - p[i], 16)
        p[i] -= (p[i] - 64) >> 4
        return 0


class Left:
    """What a column leaves to later ones."""

    def __init__(self) -> None:
        self.gram = [[0] * 13 for _ in range(13)]
        self.power, self.scale, self.shift, self.level = 2**19, 2**21, 0, 0


def decode(
    data: bytes, bits: int, n: int, channels: int, trace: Trace | None = None
) -> list[list[int]]:
    """Columns of the code; raises Refused."""
    d = Decoder(data)
    columns = columns_of(d, bits, n, channels, trace)
    refuse_if(not len(data) <= d.at <= len(data) + 7)
    return columns


def columns_of(
    d: Decoder, bits: int, n: int, channels: int, trace: Trace | None = None
) -> list[list[int]]:
    """The same, whatever is left of the code afterwards."""
    columns: list[list[int]] = []
    us: list[list[int]] = []
    left = [Left() for _ in range(8)]  # of columns c - 8 … c - 1
    length = 0
    for _ in range(channels):
        m = d.target(4)
        d.take(*((0, 13) if m < 13 else (m, 1)), 4)
        u = [0] * (n + 1)
        leaves = left[-1]
        if MODES[m] == "VERBATIM":
            x = [d.bits(bits) - 2 ** (bits - 1) for _ in range(n)]
        elif MODES[m] == "PALETTE":
            x = palette(d, n, bits)
        else:
            z = d.golomb(max(0, length - 3))
            length = z.bit_length()
            x = [unzigzag(z)] * n
            in_range(x[0], bits)
            if MODES[m] == "OLS":
                leaves = ols(d, x, u, us, left, bits, trace)
        left = [*left[1:], leaves]
        columns.append(x)
        us.append(u)
    return columns


def in_range(x: int, bits: int) -> None:
    refuse_if(not -(2 ** (bits - 1)) <= x < 2 ** (bits - 1))


def palette(d: Decoder, n: int, bits: int) -> list[int]:
    size = d.bits(6) + 1
    values = [unzigzag(d.golomb(12))]
    for _ in range(size - 1):
        values.append(values[-1] + 1 + d.golomb(6))
    in_range(values[0], bits)
    in_range(values[-1], bits)
    depth = (size - 1).bit_length()
    stays, node = [32768] * 16, [32768] * 64
    x: list[int] = []
    run = 0
    while len(x) < n:
        if x and d.adaptive(stays, run):
            run = min(15, run + 1)
            x.append(x[-1])
            continue
        run, at = 0, 1
        for _ in range(depth):
            at = 2 * at + d.adaptive(node, at)
        refuse_if(at - 2**depth >= size)
        x.append(values[at - 2**depth])
    return x


def solve(gram: list[list[int]], power: int) -> list[int]:
    n = len(gram) - 1
    diagonal = [gram[i][i] + power * (1 if i < 12 else 16) // 4 + 1 for i in range(n)]
    h = [(v.bit_length() - 29) >> 1 for v in [*diagonal, gram[n][n]]]
    low = [[0] * n for _ in range(n + 1)]
    inverse = [0] * n
    for i in range(n + 1):
        for j in range(min(i + 1, n)):
            dot = wrap(sum(low[i][k] * low[j][k] for k in range(j))) >> 30
            if i == j:
                a = up(diagonal[i], -2 * h[i])
                a += (a >> 20) + (2**28 if a == 0 else 0)
                low[i][i] = isqrt(limited(wrap(a - dot), 2**10, 2**31) << 30)
                inverse[i] = 2**60 // low[i][i]
            else:
                product = wrap((up(gram[i][j], -(h[i] + h[j])) - dot) * inverse[j])
                low[i][j] = limited(product >> 30, 1 - 2**31, 2**31 - 1)
    v = [0] * n
    for i in reversed(range(n)):
        s = wrap((low[n][i] << 20) - sum(low[k][i] * v[k] for k in range(i + 1, n)))
        q = abs(s) // low[i][i]
        v[i] = limited(q if s >= 0 else -q, -(2**30), 2**30)
    by = [h[n] - h[i] - 2 for i in range(n)]
    return [0 if by[i] > 32 else limited(up(v[i], by[i]), -(2**30), 2**30) for i in range(n)]


def solves_at(t: int) -> bool:
    return t % (16 if t <= 64 else 32 if t <= 192 else 64 if t <= 512 else 128) == 0


def ols(
    d: Decoder,
    x: list[int],
    u: list[int],
    us: list[list[int]],
    left: list[Left],
    bits: int,
    trace: Trace | None,
) -> Left:
    """Decode one predicted column into `x` and `u`."""
    n, c = len(x), len(us)
    donor = d.golomb(0)
    refuse_if(donor > 7)
    giver = left[-1 - donor]
    shift = giver.shift + unzigzag(d.golomb(0))
    level_shift = shift + giver.level + unzigzag(d.golomb(0))
    refuse_if(not (-12 <= shift <= 24 and -12 <= level_shift <= 24))
    shape, rate, n_near = d.bits(3), d.bits(2), d.bits(3)
    refuse_if(shape > 5 or n_near > min(6, c))
    near: list[int] = []
    for _ in range(n_near):
        start = near[-1] + 1 if near else 0
        refuse_if(start >= c)
        near.append(start + d.bits((c - start - 1).bit_length()))
        refuse_if(near[-1] >= c)
    width = 12 + 3 * n_near + 1
    gram = [[0] * width for _ in range(width)]
    own = [*range(12), width - 1]
    for i in range(13):
        for j in range(13):
            gram[own[i]][own[j]] = giver.gram[i][j]
    power = giver.power
    scale = limited(up(giver.scale, shift - giver.shift), 256, 2**46)
    w = solve(gram, power)
    if trace is not None:
        plan = {"c": c, "x0": x[0], "donor": donor, "shift": shift, "level_shift": level_shift}
        trace.append(plan | {"shape": shape, "rate": RATES[rate], "near": near, "w": w})
    rows: list[list[int]] = []
    half = 2 ** (bits - 1)
    for t in range(1, n):
        r = [256, clip(up(x[t - 1] - x[0], -level_shift))]
        r += [u[k] if k >= 0 else 0 for k in range(t - 10, t)]
        for b in near:
            r += [us[b][t], us[b][t - 1], us[b][t + 1]]
        total = limited(sum(a * b for a, b in zip(w, r, strict=True)), -(2**40), 2**40)
        mean = limited(256 * x[t - 1] + up(total, shift - 10), -256 * half, 256 * (half - 1))
        before = scale
        x[t] = (mean >> 8) + error(d, SHAPES[shape], scale >> 4, mean & 255)
        in_range(x[t], bits)
        faster = min(RATES[rate], (t + 8).bit_length() - 1)
        scale = max(256, scale + ((16 * abs(256 * x[t] - mean) - scale) >> faster))
        u[t] = clip(up(x[t] - x[t - 1], -shift))
        square, most = (u[t] - clip(total >> 18)) ** 2, 9 * power + 16
        teaches = t > 10 and square <= most
        rows.append([*r, u[t]] if teaches else [0] * width)
        power += (min(square, most) - power) >> (3 if t < 32 else 5)
        if trace is not None:
            row = {"t": t, "mean": mean, "s": before >> 4, "x": x[t], "u": u[t]}
            trace.append(row | {"power": power, "scale": scale})
        if t % 16 == 0:
            for i in range(width):
                for j in range(width):
                    g = gram[i][j]
                    gram[i][j] = g - (g >> 7) + sum(row[i] * row[j] for row in rows)
            rows = []
            if solves_at(t):
                w = solve(gram, power)
                if trace is not None:
                    trace.append({"t": t, "w": w})
    leaves = Left()
    down = (min(n + 2, 2048) // 2).bit_length() - 1
    leaves.gram = [[gram[i][j] >> down for j in own] for i in own]
    leaves.power, leaves.scale = power, scale
    leaves.shift, leaves.level = shift, level_shift - shift
    return leaves


def cells(table: list[int], s: int, fraction: int) -> tuple[int, int, Callable[[int], int]]:
    """drop, limit and edge."""
    drop = max(0, s.bit_length() - 13)
    limit = (10 * s >> (8 + drop)) + 1
    inverse = 2**52 // s

    def edge(v: int) -> int:
        a = (v << (drop + 8)) - 128 - fraction
        z = abs(a) * inverse >> 36
        i = z >> 12
        h = table[160] if i >= 160 else table[i] + ((table[i + 1] - table[i]) * (z & 4095) >> 12)
        level = 2**19 + (h if a >= 0 else -h)
        return (level * (2**20 - 2 * limit - 3) >> 20) + v + limit + 1

    return drop, limit, edge


def error(d: Decoder, table: list[int], s: int, fraction: int) -> int:
    drop, limit, edge = cells(table, s, fraction)
    target = d.target(20)
    if target < edge(-limit):
        d.take(0, edge(-limit), 20)
        v = -limit - 1 - d.golomb(6)
    elif target >= edge(limit + 1):
        d.take(edge(limit + 1), 2**20 - edge(limit + 1), 20)
        v = limit + 1 + d.golomb(6)
    else:
        v, b = -limit, limit + 1
        while b - v > 1:
            middle = (v + b) // 2
            v, b = (middle, b) if edge(middle) <= target else (v, middle)
        d.take(edge(v), edge(v + 1) - edge(v), 20)
    refuse_if(not -(2**33) <= v < 2**33)
    return (v << drop) + d.bits(drop)


def packed_rows(coded: bytes, dtype: int, n: int, channels: int) -> bytes:
    """Packed rows of a body before its CRC; `dtype` is the code of the sample type. Raises Refused."""
    width = {1: 2, 2: 3, 3: 4, 4: 4, 5: 8}[dtype]
    refuse_if(len(coded) == 0 or coded[0] > 1)
    if coded[0] == 0:
        refuse_if(len(coded) - 1 != n * channels * width)
        return coded[1:]
    refuse_if(n == 0)
    halves = 2 if dtype == 5 else 1
    columns = decode(coded[1:], 8 * min(width, 4), n, halves * channels)
    out = b""
    for t in range(n):
        for c in range(channels):
            v = columns[c][t]
            if dtype == 5:
                v = v << 32 | columns[channels + c][t] % 2**32
            if dtype >= 4 and v < 0:
                v ^= 2 ** (8 * width - 1) - 1
            out += v.to_bytes(width, "little", signed=True)
    return out
