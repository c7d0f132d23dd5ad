"""Models of others on live windows: the door to ONNX Runtime.

Runs in: pipeline worker, one thread per model; and in the child of `modelfile`, where a new model is tried
first. Nothing here knows of recordings, and no model is a medical judgement.
"""

import os
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal.declaration import Declaration, Input, Output, refused

_TYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}
_SHORT: Final = 16  # digits of the SHA-256 in an event


class Inference(msgspec.Struct, frozen=True, eq=False):
    """`outputs`: without the batch. `n_outside`: input values beyond what the model was declared for."""

    outputs: dict[str, NDArray[Any]]
    n_outside: int
    took_ns: int
    is_late: bool  # took longer than `run_s`


class Model:
    """A model that was tried. One instance belongs to one thread at a time."""

    def __init__(
        self,
        declared: Declaration,
        session: Any,
        source: str,
        run_s: float,
        clock: Callable[[], int],
    ) -> None:
        self.declared = declared
        self._session = session
        self._source = source
        self._run_s = run_s
        self._clock = clock

    def infer(self, values: NDArray[np.floating]) -> Inference:
        """Of one window: rows (n_samples, n_channels) or features (n_features, n_channels), in its unit.

        ConfigError: `model_no_input`, a value that is no number (ask once the window has no trouble);
        `model_not_a_number`, an output that is none; `model_memory`; `model_failed`. ValueError: another shape.
        """
        given = self.declared.input
        if values.shape != given.given:
            msg = f"values of shape {values.shape}, not {given.given}"
            raise ValueError(msg)
        with np.errstate(over="ignore"):
            ordered = given.ordered(values)
        if not np.isfinite(ordered).all():
            raise refused(
                "no_input",
                self._source,
                "the window holds values that are no numbers",
                "Ask again once the window is whole",
            )
        started = self._clock()
        outputs = run(self._session, self.declared, ordered, self._source)
        took_ns = self._clock() - started
        n_outside = int(((values < given.low) | (values > given.high)).sum())
        return Inference(outputs, n_outside, took_ns, took_ns > self._run_s * 1e9)


def completed(
    model: Model, inference: Inference, *, incarnation: int, seq_first: int, seq_last: int
) -> dict[str, Any]:
    """The data of a `model.inference_completed`, from rows `seq_first` to `seq_last` of the event's stream."""
    declared = model.declared
    outputs = {name: values.tolist() for name, values in inference.outputs.items()}
    return {
        "model": declared.name,
        "version": declared.version,
        "sha256": declared.sha256[:_SHORT],
        "incarnation": incarnation,
        "seq_first": seq_first,
        "seq_last": seq_last,
        "outputs": outputs,
        "classes": {each.name: list(each.classes) for each in declared.outputs if each.classes},
        "n_outside": inference.n_outside,
        "took_ns": inference.took_ns,
        "is_late": inference.is_late,
    }


def runtime(source: str) -> Any:
    # Heeded from 1.29 on, whose builds would call their maker. The pin is older than that.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime  # noqa: PLC0415  58 MB that only a box with models needs
    except ImportError as error:
        raise refused(
            "no_runtime",
            source,
            "ONNX Runtime is not installed",
            "Install the extra `models`: pip install -c constraints.txt -e '.[models]'",
        ) from error
    return onnxruntime


def opened(data: bytes, declared: Declaration, source: str) -> Any:
    """One thread, the CPU alone, no memory kept between runs, nothing told to anybody."""
    onnxruntime = runtime(source)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _errors(onnxruntime) as error:
        remedy = "Export the model for an opset that this ONNX Runtime knows"
        raise _translated("graph", source, error, remedy) from error
    _check_ends(session, declared, source)
    return session


def _errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """The runtime's have no root of their own; and it lets C++'s through as Python's."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
    more = ("EPFail", "EngineError", "NotImplemented", "RuntimeException")
    own: list[type[Exception]] = [getattr(state, name) for name in (*names, *more)]
    return (*own, MemoryError, OverflowError, RuntimeError, ValueError)


def _translated(reason: str, source: str, error: Exception, remedy: str) -> ConfigError:
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        why = "it wants more memory than it may have"
        return refused("memory", source, why, "Use a smaller model")
    return refused(reason, source, f"ONNX Runtime refuses it: {error}", remedy)


def _check_ends(session: Any, declared: Declaration, source: str) -> None:
    """Inputs and outputs of the graph against what is declared of them."""
    inputs = {each.name: each for each in session.get_inputs()}
    outputs = {each.name: each for each in session.get_outputs()}
    if list(inputs) != [declared.input.name]:
        why = f"its inputs are {', '.join(inputs)}, declared is {declared.input.name}"
        raise refused("input", source, why, "Declare the one input that the model has")
    _check_end("input", inputs[declared.input.name], declared.input, source)
    for output in declared.outputs:
        if output.name not in outputs:
            why = f"it has no output {output.name}, but {', '.join(outputs)}"
            raise refused("output", source, why, "Declare outputs that the model has")
        _check_end("output", outputs[output.name], output, source)


def _check_end(kind: str, found: Any, wanted: Input | Output, source: str) -> None:
    shape = list(found.shape) if found.type in _TYPES else []
    remedy = f"Correct the declared {kind}, or export the model with it"
    what = f"its {kind} {wanted.name} is {found.type} {shape}"
    if _TYPES.get(found.type) != wanted.dtype:
        raise refused(kind, source, f"{what}, declared is {wanted.dtype}", remedy)
    if any(not isinstance(n, int) for n in shape[1:]):
        why = f"{what}: more than the batch is open"
        raise refused("dynamic", source, why, "Export the model with fixed lengths")
    is_batch = bool(shape) and (not isinstance(shape[0], int) or shape[0] == 1)
    if not is_batch or tuple(shape[1:]) != wanted.shape:
        why = f"{what}, declared is a batch of {list(wanted.shape)}"
        raise refused(kind, source, why, remedy)


def run(
    session: Any, declared: Declaration, values: NDArray[Any], source: str
) -> dict[str, NDArray[Any]]:
    names = [each.name for each in declared.outputs]
    try:
        found = session.run(names, {declared.input.name: values})
    except _errors(runtime(source)) as error:
        remedy = "Do not use this model, and tell who made it"
        raise _translated("failed", source, error, remedy) from error
    return {
        each.name: _checked(each, value, source)
        for each, value in zip(declared.outputs, found, strict=True)
    }


def _checked(output: Output, value: NDArray[Any], source: str) -> NDArray[Any]:
    if value.shape != (1, *output.shape) or value.dtype != output.dtype:
        why = f"its output {output.name} came as {value.dtype} {value.shape}"
        raise refused("output", source, why, "Export the model with fixed lengths")
    if not np.isfinite(value).all():
        why = f"its output {output.name} holds values that are no numbers"
        raise refused("not_a_number", source, why, "Correct the model, or the declared range")
    first: NDArray[Any] = value.reshape(output.shape)
    return first
