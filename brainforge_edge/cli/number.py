"""A number on the command line. Runs in: the CLI process."""

import math
from typing import Any

import click


class Number(click.FloatRange):
    """From `least` to `most`; NaN, which no comparison refuses, is none."""

    def __init__(self, *, least: float = 0.0, most: float) -> None:
        super().__init__(least, most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number
