"""Models on live windows: real ONNX files, the real runtime; each reason to refuse one, by its code."""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import ConfigError, ExitStatus
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.signal.declaration import FEATURES, gathered, parse
from brainforge_edge.signal.featureset import window_features
from brainforge_edge.signal.inference import Model, completed, opened
from brainforge_edge.signal.modelfile import Limits, load
from tests.unit.onnx_material import (
    DECLARED,
    WEIGHTS,
    Dims,
    end,
    field,
    linear,
    model,
    node,
    tensor,
    varint,
    written,
)
from tests.unit.signal_material import filled, noise

X = np.array([[0.5, 9.0], [3.0, 1.5]])
SHA256 = hashlib.sha256(linear()).hexdigest()


def refusal(path: Path, limits: Limits | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        load(path, limits=limits)
    error = refused.value
    assert error.exit_status == ExitStatus.CONFIG
    assert all((error.what, error.why, error.remedy))
    assert str(error).isprintable()
    return error


def by_runtime(data: bytes, declared: str = DECLARED) -> str:
    """The code, without a trial in a child: the same look at the same graph."""
    with pytest.raises(ConfigError) as refused:
        opened(data, parse(declared.replace("{sha256}", SHA256), "m.onnx"), "m.onnx")
    return refused.value.code


def trusted(data: bytes) -> Model:
    declared = parse(DECLARED.replace("{sha256}", SHA256), "m.onnx")
    return Model(declared, opened(data, declared, "m.onnx"), "m.onnx", 1e-9, lambda: next(ticks))


ticks = iter(range(0, 10**9, 1000))


def test_a_model_answers_as_its_formula_and_makes_an_event(tmp_path: Path) -> None:
    found = load(written(tmp_path, linear()))
    inference = found.infer(X)
    logits = np.exp(X.reshape(1, 4) @ WEIGHTS)
    np.testing.assert_allclose(inference.outputs["p"], (logits / logits.sum())[0], rtol=1e-5)
    data = completed(found, inference, incarnation=2, seq_first=1000, seq_last=1499)
    event = SystemEvent.root(
        EventType.INFERENCE_COMPLETED,
        source="pipeline",
        node_id="n",
        clock=SystemClock(),
        random=os.urandom,
        data=data,
    )
    assert event.data["model"] == "rest-or-task"
    assert event.data["version"] == "1.0.2"
    assert SHA256.startswith(event.data["sha256"])
    assert (event.data["seq_first"], event.data["seq_last"]) == (1000, 1499)
    assert event.data["classes"] == {"p": ["rest", "task", "other"]}
    assert event.data["took_ns"] == inference.took_ns > 0


def test_what_lies_outside_of_the_declared_range_is_counted_and_what_is_late_is_told() -> None:
    inference = trusted(linear()).infer(np.array([[-1.0, 5.0], [11.0, 10.0]]))
    assert inference.n_outside == 2
    assert inference.took_ns == 1000
    assert inference.is_late


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_window_with_a_value_that_is_no_number_is_not_asked_about(bad: float) -> None:
    hurt = X.copy()
    hurt[1, 0] = bad
    with pytest.raises(ConfigError) as refused:
        trusted(linear()).infer(hurt)
    assert refused.value.code == "config.model_no_input"
    with pytest.raises(ValueError, match="values of shape"):
        trusted(linear()).infer(X[:1])


def test_a_model_brings_no_thread() -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    found = trusted(linear())
    found.infer(X)
    assert len(list(Path("/proc/self/task").iterdir())) <= before


@pytest.mark.parametrize("batch", [("n",), (1,)])
def test_the_batch_may_be_open_or_one(batch: Dims) -> None:
    assert trusted(linear(batch)).infer(X).outputs["p"].shape == (3,)


def test_rows_go_in_as_the_model_orders_them() -> None:
    declared = DECLARED.replace(
        '"features"\nfeatures = ["power.alpha", "ratio.theta/beta"]', '"rows"'
    )
    declared = declared.replace("sfreq = 250", "sfreq = 4").replace(
        "window_s = 2", "window_s = 0.75"
    )
    declared = declared.replace("[2, 2]", "[1, 2, 3]").replace(
        "features, channels", "channels, time"
    )
    given = parse(declared.replace("{sha256}", SHA256), "m.onnx").input
    rows = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(given.ordered(rows), rows.T.reshape(1, 1, 2, 3).astype(np.float32))


def test_every_feature_that_can_be_declared_is_there_and_in_order() -> None:
    features = window_features(filled(noise(5, 250, 2), 250), 2)
    values = gathered(features, FEATURES)
    assert values.shape == (len(FEATURES), 2)
    assert np.isfinite(values).all()
    assert np.array_equal(gathered(features, ("entropy",))[0], features.entropy)
    with pytest.raises(ValueError, match="no feature 'power'"):
        gathered(features, ("power",))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name = ", "nick = ", "unknown field"),
        ('"1.0.2"', '"1 0"', "version"),
        ("{sha256}", "{sha256}0", "sha256"),
        ("low = 0", "low = 10", "low"),
        ("low = 0", "low = nan", "low"),
        ("high = 10", "high = 1e99", "high"),
        ("sfreq = 250", "sfreq = 0", "sfreq"),
        ('["O1", "O2"]', '["O1", "O1"]', "ch_names"),
        ('"power.alpha"', '"power.omega"', "power.alpha"),
        ("window_s = 2", "window_s = 3", "windows of"),
        ("shape = [2, 2]", "shape = [2, 3]", "shape"),
        ("shape = [2, 2]", "shape = [-2, -2]", "shape"),
        ("features, channels", "time, channels", "order"),
        ("shape = [3]", "shape = [1000000000]", "1024 values"),
        ("shape = [3]", "shape = [4]", "classes"),
        ("shape = [3]", "shape = [0]", "below 1"),
        ("[[outputs]]", "[outputs]", "array"),
        ("window_s = 2", "window_s = " + "9" * 5000, "4300"),
        ("window_s = 2", "window_s = " + "[" * 5000, "nested"),
        ('"V"', '"V', "line"),
        ("[input]", "[output]", "output"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in DECLARED
    error = refusal(written(tmp_path, linear(), DECLARED.replace(old, new, 1)))
    assert error.code == "config.model_declaration"
    assert said in error.why


def test_files_that_are_not_there_not_files_or_not_text_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, linear())
    path.with_suffix(".toml").write_bytes(b"\xff\xfe")
    assert refusal(path).code == "config.model_declaration"
    path.with_suffix(".toml").unlink()
    assert refusal(path).code == "config.model_file"
    os.mkfifo(path.with_suffix(".toml"))
    assert "is no file" in refusal(path).why
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    path.with_suffix(".toml").unlink()
    written(tmp_path, linear()).with_suffix(".toml").rename(folder.with_suffix(".toml"))
    assert refusal(folder).code == "config.model_file"


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, linear())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert refusal(path).code == "config.model_digest"


def test_300_mb_are_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, linear())
    with path.open("r+b") as file:
        file.truncate(300 * 1024 * 1024)
    error = refusal(path)
    assert error.code == "config.model_too_large"
    assert "32768 KiB" in error.why
    path.with_suffix(".toml").write_text("#" * 70_000, encoding="utf-8")
    assert refusal(path).code == "config.model_too_large"


def external() -> bytes:
    where = field(13, field(1, "location") + field(2, "/etc/passwd"))
    return linear(tensors=[tensor("w", WEIGHTS, where, field(14, 1))])


def in_an_attribute(name: str) -> bytes:
    value = tensor(name, WEIGHTS, field(13, field(1, "location") + field(2, "w.bin")), field(14, 1))
    return model([node("Constant", [], ["w"], field(1, "value") + field(5, value))], [], [])


def looped() -> bytes:
    body = field(1, "body") + field(6, field(2, "g")) + field(20, 5)
    return linear(nodes=[node("Loop", ["x"], ["p"], body)])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_onnx"),
        (b"PK\x03\x04 a zip", "not_onnx"),
        (b"\x08\x08", "not_onnx"),
        (linear()[:-40], "not_onnx"),
        (external(), "external_data"),
        (in_an_attribute("w"), "external_data"),
        (looped(), "operator"),
        (linear(nodes=[node("RandomNormalLike", ["x"], ["p"])]), "operator"),
        (linear(nodes=[node("FusedMatMul", ["x"], ["p"], domain="com.microsoft")]), "operator"),
        (linear(more=[field(25, field(1, "f"))]), "operator"),
        (model([node("Relu", ["x"], ["x"])] * 20_001, [], []), "not_onnx"),
        (varint(1 << 3) + b"\xff" * 11, "not_onnx"),
    ],
)
def test_what_must_not_reach_the_runtime_is_refused_before(
    tmp_path: Path, data: bytes, code: str
) -> None:
    assert refusal(written(tmp_path, data)).code == f"config.model_{code}"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (linear(nodes=[node("Frobnicate", ["x"], ["p"])]), "graph"),
        (linear(nodes=[node("Relu", ["nothing"], ["p"])]), "graph"),
        (linear(inputs=[end("x", ("n", 2, 3))]), "graph"),
        (linear(inputs=[end("y", ("n", 2, 2)), end("x", ("n", 2, 2))]), "input"),
        (linear(inputs=[end("x", ("n", 2, 2), "float64")], tensors=[tensor("w", WEIGHTS.astype(np.float64))], outputs=[end("p", ("n", 3), "float64")]), "input"),
        (linear(inputs=[end("x", ("n", 2, "c"))]), "dynamic"),
        (linear((7,)), "input"),
        (linear(outputs=[end("logits", ("n", 3))]), "output"),
        (linear(nodes=[node("Identity", ["x"], ["p"])], outputs=[end("p", ("n", 2, 2))]), "output"),
    ],
)  # fmt: skip
def test_a_graph_that_is_not_what_is_declared_is_refused(data: bytes, code: str) -> None:
    assert by_runtime(data) == f"config.model_{code}"


def test_an_operator_that_the_runtime_does_not_know_is_refused_by_the_trial(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, linear(nodes=[node("Frobnicate", ["x"], ["p"])])))
    assert error.code == "config.model_graph"
    assert "Frobnicate" in error.why


def test_what_the_runtime_prints_of_a_damaged_graph_is_no_answer_of_the_trial(
    tmp_path: Path,
) -> None:
    """Found by mutated files: of a name that is not UTF-8 the runtime prints that it will try again."""
    data = linear(
        nodes=[node("Flatten", ["x"], ["p"], field(1, b"\xffaxis") + field(3, 1) + field(20, 2))]
    )
    assert refusal(written(tmp_path, data)).code == "config.model_graph"


def test_a_model_that_gives_what_is_no_number_is_refused(tmp_path: Path) -> None:
    flat = [node("Flatten", ["x"], ["flat"]), node("MatMul", ["flat", "w"], ["logits"])]
    data = linear(nodes=[*flat, node("Log", ["logits"], ["p"])])
    assert refusal(written(tmp_path, data)).code == "config.model_not_a_number"
    with pytest.raises(ConfigError) as refused:
        trusted(data).infer(X)
    assert refused.value.code == "config.model_not_a_number"


def test_a_run_that_ends_with_an_error_is_one_of_ours() -> None:
    keep = field(1, "keepdims") + field(3, 0) + field(20, 2)
    nodes = [
        node("Flatten", ["x"], ["flat"]),
        node("Cast", ["flat"], ["rows"], field(1, "to") + field(3, 7) + field(20, 2)),
        node("Gather", ["w", "rows"], ["picked"]),
        node("ReduceSum", ["picked", "axes"], ["p"], keep),
    ]
    data = linear(
        nodes=nodes, tensors=[tensor("w", WEIGHTS), tensor("axes", np.array([1], np.int64))]
    )
    assert trusted(data).infer(X / 3).outputs["p"].shape == (3,)
    with pytest.raises(ConfigError, match="out of data bounds") as refused:
        trusted(data).infer(X)  # row 9 of 4
    assert refused.value.code == "config.model_failed"


def huge(n: int) -> bytes:
    """A billion values between input and output, which says nothing of it."""
    shape, axes = np.array([n], np.int64), np.array([0], np.int64)
    keep = field(1, "keepdims") + field(3, 0) + field(20, 2)
    nodes = [
        node("ConstantOfShape", ["n"], ["many"]),
        node("Reshape", ["x", "one"], ["flat"]),
        node("ReduceSum", ["flat", "axes"], ["sum"], keep),
        node("Add", ["many", "sum"], ["more"]),
        node("ReduceSum", ["more", "axes"], ["total"], keep),
        node("Expand", ["total", "ends"], ["p"]),
    ]
    tensors = [
        tensor("n", shape),
        tensor("axes", axes),
        tensor("one", np.array([-1], np.int64)),
        tensor("ends", np.array([1, 3], np.int64)),
    ]
    return linear((1,), nodes=nodes, tensors=tensors)


def test_a_model_that_wants_a_billion_values_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, huge(10**9)))
    assert error.code == "config.model_memory"
    assert load(written(tmp_path, linear())).infer(X).outputs


def test_a_model_that_is_too_slow_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, linear())
    assert "one run takes" in refusal(path, Limits(run_s=1e-12)).why
    error = refusal(path, Limits(trial_s=0.001))
    assert error.code == "config.model_slow"
    assert "trial took longer" in error.why


def test_without_the_runtime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = refusal(written(tmp_path, linear()))
    assert error.code == "config.model_no_runtime"
    assert "[models]" in error.remedy


def test_a_model_that_ends_its_process_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("false")  # a process that ends without a word, as one with a fault does
    assert program is not None
    monkeypatch.setattr(sys, "executable", program)
    assert refusal(written(tmp_path, linear())).code == "config.model_crashed"


def test_the_runtime_holds_nothing_that_could_call_its_maker() -> None:
    """Builds from 1.29 on upload what they run, by default: an update of the pin must not pass unseen."""
    found = importlib.util.find_spec("onnxruntime")
    assert found is not None
    assert found.origin is not None
    libraries = list((Path(found.origin).parent / "capi").glob("*.so*"))
    assert libraries
    for library in libraries:
        assert b"telemetry_1ds" not in library.read_bytes(), library.name
