"""The exposition format: names that nobody can break out of."""

from brainforge_edge.web.growth import Recorded, Verdict
from brainforge_edge.web.metrics import text
from brainforge_edge.web.watch import Seen


def test_labels_are_escaped_and_what_is_not_known_is_left_out() -> None:
    status = {"workers": [{"name": 'a"b\\c\nd', "restarts": 2}], "disk": {"free_bytes": None}}
    said = text(Seen(status, Recorded(Verdict.PARTLY, {"helmet": True}), 0.25, None))
    assert 'brainforge_worker_restarts_total{worker="a\\"b\\\\c\\nd"} 2\n' in said
    assert "brainforge_recording 0\n" in said
    assert 'brainforge_device_recording{device="helmet"} 1\n' in said
    assert "brainforge_up 1\n" in said
    assert "disk_free" not in said
    assert all(line.startswith(("#", "brainforge_")) for line in said.splitlines())


def test_a_daemon_that_is_silent_is_not_up() -> None:
    assert "brainforge_up 0\n" in text(Seen({}, Recorded(Verdict.UNKNOWN, {}), 9.0, None))
