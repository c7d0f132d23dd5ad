"""What a model says of itself, in a TOML file beside it: identity, input, outputs. Runs in: pipeline worker; no I/O."""

import math
import re
import tomllib
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal.features import RATIOS, Shape
from brainforge_edge.signal.featureset import WindowFeatures
from brainforge_edge.signal.grid import BANDS, WINDOWS_S

MOST_BYTES: Final = 64 * 1024
MOST_INPUT: Final = 4_000_000  # values
MOST_OUTPUT: Final = 1024  # values of all outputs: an event carries them
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_WORD: Final = 200  # characters of a name
_LARGEST: Final = 1e30

FEATURES: Final = (
    *(f"power.{band.name}" for band in BANDS),
    *(f"relative.{band.name}" for band in BANDS),
    *(f"ratio.{ratio.name}" for ratio in RATIOS),
    *(f"shape.{name}" for name in Shape.__struct_fields__),
    "peak_alpha_hz",
    "entropy",
)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Input(_Table, frozen=True):
    """`shape` is the model's without its batch; ones in it are free, the rest is told by the other keys."""

    name: str  # in the graph
    kind: Literal["rows", "features"]
    ch_names: tuple[str, ...]
    window_s: float
    sfreq: float  # of the rows, or of those that the features are made of
    unit: str
    low: float  # of what the model was made for: probed before use, told of when left
    high: float
    shape: tuple[int, ...]
    order: Literal["time, channels", "channels, time", "features, channels", "channels, features"]
    dtype: Literal["float32", "float64"] = "float32"
    features: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[int, int]:
        """Shape of what is given: (n_samples, n_channels) or (n_features, n_channels)."""
        n = round(self.sfreq * self.window_s) if self.kind == "rows" else len(self.features)
        return n, len(self.ch_names)

    def ordered(self, values: NDArray[np.floating]) -> NDArray[Any]:
        """Values of the shape `given` as the model wants them, with a batch of one."""
        turned = values.T if self.order.startswith("channels") else values
        return np.ascontiguousarray(turned, self.dtype).reshape(1, *self.shape)


class Output(_Table, frozen=True):
    """`classes`: names of the values along its last axis, or of its numbers if it is an int64 label."""

    name: str
    shape: tuple[int, ...] = ()  # without the batch
    dtype: Literal["float32", "float64", "int64"] = "float32"
    classes: tuple[str, ...] = ()


class Declaration(_Table, frozen=True):
    name: str
    version: str
    sha256: str  # of the model file
    input: Input
    outputs: tuple[Output, ...]


def parse(text: str, source: str) -> Declaration:
    """ConfigError `model_declaration`, with the key."""
    try:
        found = msgspec.convert(tomllib.loads(text), Declaration)
        why = _wrong(found)
    except RecursionError:
        why = "it is nested too deeply"
    except (ValueError, OverflowError) as error:  # of TOML, of msgspec, of numbers beyond measure
        why = str(error)
    if why:
        raise refused("declaration", source, why, "Correct that key; signal.md lists all of them")
    return found


def refused(reason: str, source: str, why: str, remedy: str) -> ConfigError:
    """A model that is not used, with the reason: `config.model_…`. Texts of others are cut and made printable."""
    what = _shown(f"the model {source} is not used")
    return ConfigError(f"model_{reason}", what, why=_shown(why), remedy=remedy)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:500]).strip().rstrip(".")


def gathered(features: WindowFeatures, names: tuple[str, ...]) -> NDArray[np.float64]:
    """(n_features, n_channels) in the order of `names`, each of `FEATURES`; NaN where there is no figure.

    ValueError: one that this stream does not have.
    """
    groups: dict[str, dict[str, NDArray[np.float64]]] = {
        "power": features.powers,
        "relative": features.relative,
        "ratio": features.ratios,
        "shape": msgspec.structs.asdict(features.shape),
        "peak_alpha_hz": {"": features.peak_alpha_hz},
        "entropy": {"": features.entropy},
    }
    rows = []
    for name in names:
        group, _, key = name.partition(".")
        if key not in groups.get(group, {}):
            msg = f"this stream has no feature {name!r}"
            raise ValueError(msg)
        rows.append(groups[group][key])
    return np.stack(rows)


def _wrong(found: Declaration) -> str:
    """Why it cannot be meant, or nothing."""
    if not _NAME.fullmatch(found.name) or not _NAME.fullmatch(found.version):
        return "`name` and `version` are 1 to 64 letters, digits and . _ + -"
    if not _SHA256.fullmatch(found.sha256):
        return "`sha256` is not 64 hexadecimal digits in lower case"
    return _wrong_input(found.input) or _wrong_outputs(found.outputs)


def _wrong_input(given: Input) -> str:
    if not -_LARGEST <= given.low < given.high <= _LARGEST:
        return f"`input.low` is not below `input.high`, or one of them is beyond {_LARGEST:g}"
    if not 0 < given.sfreq <= 1e5 or not 0 < given.window_s <= 60:
        return "`input.sfreq` is above 0 to 100000 Hz, `input.window_s` above 0 to 60 s"
    names = given.ch_names
    if not 1 <= len(names) <= 1024 or len(set(names)) != len(names) or not _are_words(names):
        return "`input.ch_names` are 1 to 1024 different names"
    if not _are_words((given.name, given.unit)):
        return "`input.name` and `input.unit` are not empty"
    is_rows = given.kind == "rows"
    if ("time" if is_rows else "features") not in given.order:
        return f"`input.order` is {given.order!r}, which does not go with {given.kind!r}"
    if is_rows and given.features:
        return "`input.features` is for the kind 'features' alone"
    unknown = [name for name in given.features if name not in FEATURES]
    if unknown or len(set(given.features)) != len(given.features):
        return f"`input.features` are different ones of {', '.join(FEATURES)}"
    if not is_rows and (given.window_s not in WINDOWS_S or not given.features):
        return f"features are of windows of {', '.join(map(str, WINDOWS_S))} s, and one at least"
    wanted = given.given[::-1] if given.order.startswith("channels") else given.given
    if math.prod(wanted) > MOST_INPUT or not 1 <= len(given.shape) <= 8:
        return f"the input has more than {MOST_INPUT} values, or none or more than 8 axes"
    if [n for n in given.shape if n != 1] != [n for n in wanted if n != 1]:
        return (
            f"`input.shape` is {given.shape}; {given.order} are {wanted}, with any ones among them"
        )
    return ""


def _wrong_outputs(outputs: tuple[Output, ...]) -> str:
    names = [output.name for output in outputs]
    if not names or len(set(names)) != len(names) or not _are_words(names):
        return "`outputs` are one or more of different names"
    if any(n < 1 for output in outputs for n in output.shape):
        return "`outputs.shape` holds a length below 1"
    if sum(math.prod(output.shape) for output in outputs) > MOST_OUTPUT:
        return f"the outputs have more than {MOST_OUTPUT} values"
    for output in outputs:
        is_label = output.dtype == "int64" and not output.shape
        n = len(output.classes)
        if n and (not _are_words(output.classes) or not (is_label or output.shape[-1:] == (n,))):
            return f"`outputs.classes` of {output.name!r} are not as many as its last axis is long"
    return ""


def _are_words(names: Any) -> bool:
    return all(0 < len(name) <= _WORD and name.isprintable() for name in names)
