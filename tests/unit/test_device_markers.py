"""A device's markers reach the agent once, in order, in batches that fit into a chunk."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.acquisition.markers import ANSWER_NS, MOST_BYTES, Markers
from brainforge_edge.core import ipc
from brainforge_edge.core.block import Marker
from brainforge_edge.core.errors import SessionError, StorageError

DOWN = StorageError("agent_down", "x", why="y", remedy="z", transient=True).as_dict()
NOT_RECORDING = SessionError("not_recording", "x", why="y", remedy="z").as_dict()


def _made(*texts: str) -> tuple[Markers, deque[Marker], list[ipc.Marks]]:
    sent: list[ipc.Marks] = []

    def send(message: ipc.Message) -> None:
        assert isinstance(message, ipc.Marks)
        sent.append(message)

    queue = deque(Marker(number, 0.0, text) for number, text in enumerate(texts))
    return Markers(queue, send), queue, sent


@given(st.lists(st.text(max_size=1000), min_size=1, max_size=60))
def test_every_marker_is_sent_once_and_in_order(texts: list[str]) -> None:
    markers, queue, sent = _made(*texts)
    markers.advance(0)
    answered = 0
    while answered < len(sent):
        answered += 1
        markers.answered(ipc.MarkStored(token=sent[answered - 1].token), 0)
    assert [text for batch in sent for _, _, text in batch.marks] == texts
    assert (markers.stored, len(queue)) == (len(texts), 0)
    for batch in sent:
        size = sum(len(text.encode("utf-8", "replace")) for _, _, text in batch.marks)
        assert size <= MOST_BYTES or len(batch.marks) == 1


def test_an_agent_that_is_down_is_asked_again_with_the_same_markers() -> None:
    markers, _, sent = _made("one")
    markers.advance(0)
    markers.advance(1)
    assert len(sent) == 1  # one answer is waited for
    markers.answered(ipc.MarkStored(token=sent[0].token, error=DOWN), 2)
    markers.advance(3)
    markers.answered(ipc.MarkStored(token=sent[0].token), 4)  # too late: it asked anew
    assert markers.stored == 0
    markers.answered(ipc.MarkStored(token=sent[1].token), 5)
    assert (sent[0].marks, markers.stored) == (sent[1].marks, 1)


def test_an_answer_that_never_comes_is_not_waited_for_for_ever() -> None:
    markers, _, sent = _made("one")
    markers.advance(1)
    markers.advance(ANSWER_NS)
    assert len(sent) == 1
    markers.advance(ANSWER_NS + 2)
    assert len(sent) == 2


def test_markers_outside_a_recording_are_counted_and_let_go() -> None:
    markers, queue, sent = _made("one")
    markers.advance(0)
    markers.answered(ipc.MarkStored(token=sent[0].token, error=NOT_RECORDING), 0)
    assert (markers.unrecorded, markers.stored, len(queue), len(sent)) == (1, 0, 0, 1)
