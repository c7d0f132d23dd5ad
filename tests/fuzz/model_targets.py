"""Files of models: the ONNX walk, the declaration, a trained reservoir."""

import hashlib
from contextlib import suppress

import numpy as np

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal import declaration
from brainforge_edge.signal.modelfile import check_structure
from brainforge_edge.signal.readoutfile import MAGIC, decoded, encoded
from brainforge_edge.signal.reservoir import Network, Readout, Reservoir
from tests.fuzz.target import Target, plain
from tests.unit.onnx_material import DECLARED, end, field, linear, model, node

_HEAD = len(MAGIC) + 32


def run_model(data: bytes) -> None:
    with suppress(ConfigError):
        check_structure(data, "m.onnx")


def model_seeds() -> list[bytes]:
    external = field(13, field(1, "location") + field(2, "w")) + field(14, 1)
    return [
        linear(),
        linear((1,)),
        model(
            [node("Constant", [], ["p"], field(5, field(2, 1) + external))], [], [end("p", (1,))]
        ),
        model([node("If", ["x"], ["p"], field(6, field(2, "g")))], [end("x", (1,))], []),
        linear(more=[field(20, b""), field(25, field(1, "f"))]),
    ]


def run_declaration(data: bytes) -> None:
    with suppress(ConfigError):
        found = declaration.parse(data.decode("utf-8", "replace"), "m.onnx")
        found.input.ordered(np.zeros(found.input.given))


def declaration_seeds() -> list[bytes]:
    whole = DECLARED.replace("{sha256}", "0" * 64)
    rows = whole.replace('"features"\nfeatures = ["power.alpha", "ratio.theta/beta"]', '"rows"')
    rows = rows.replace("features, channels", "channels, time").replace("[2, 2]", "[1, 2, 500]")
    return [
        whole.encode(),
        rows.encode(),
        whole.replace("sfreq = 250", "sfreq = 1" + "0" * 400).encode(),
        whole.replace("window_s = 2", "window_s = nan").encode(),
        whole.replace("shape = [3]", "shape = [[[[3]]]]").encode(),
    ]


def run_reservoir(data: bytes) -> None:
    """The first byte says whether the digest is mended."""
    body = data[1:]
    if data[:1] > b"\x7f" and body.startswith(MAGIC):
        body = MAGIC + hashlib.sha256(body[_HEAD:]).digest() + body[_HEAD:]
    with suppress(ConfigError):
        readout = decoded(body, "r.bfres")
        Reservoir(readout).push(np.ones((3, readout.network.n_inputs)))


def _small(n_inputs: int, n_units: int, n_outputs: int) -> bytes:
    fixed = Network(
        np.ones((n_inputs, n_units), np.float32),
        np.ones((1, n_units), np.float32),
        np.ones((2, n_units), np.float32),
        np.zeros((2, n_units), np.int32),
        0.5,
    )
    ones = np.ones(n_inputs, np.float32)
    weights = np.ones((1 + n_inputs + n_units, n_outputs), np.float32)
    names = tuple("abcd")
    return encoded(
        Readout("r", 250.0, names[:n_inputs], names[:n_outputs], fixed, ones, ones, weights)
    )


def reservoir_seeds() -> list[bytes]:
    return [
        mend + _small(*shape)
        for mend in (b"\0", b"\xff")
        for shape in ((1, 2, 1), (2, 3, 2), (4, 2, 1))
    ]


TARGETS = (
    Target("model", model_seeds, plain(run_model)),
    Target("model-declaration", declaration_seeds, plain(run_declaration), 2048),
    Target("reservoir", reservoir_seeds, plain(run_reservoir)),
)
