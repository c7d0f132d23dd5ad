"""A box with two caps whose wearers have agreed, and a protocol of the site's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainforge_edge.core.errors import BrainforgeError
from tests.faults.box import Box, box_in

MOST_S = 90.0
WORN = {"one": "p-one", "two": "p-two"}
PLAN = "plan"


def protocol(*phases: tuple[str, float]) -> str:
    """A protocol file; features are of one second."""
    text = f'name = "{PLAN}"\ntitle = {{ key = "t", text = "A plan" }}\n'
    for name, duration_s in phases:
        text += (
            f'[[phase]]\nname = "{name}"\nduration_s = {duration_s}\ntimescale_s = 1\n'
            f'instruction = {{ key = "t.{name}", text = "Do {name}." }}\n'
        )
    return text


class SessionBox(Box):
    """A box, and what a person asks of sessions there."""

    def session(self, do: str, **given: object) -> dict[str, Any]:
        """The answer; `by` is the nurse."""
        asked: dict[str, Any] = {"by": "nurse", **given}
        return self.ask("session", do=do, **asked)

    def refused(self, do: str, **given: object) -> str:
        """The code of the error with which a wish is refused."""
        try:
            self.session(do, **given)
        except BrainforgeError as error:
            return error.code
        return ""

    def begin(self, **given: object) -> dict[str, Any]:
        """A session on all that is worn."""
        wish: dict[str, object] = {"protocol": PLAN, "devices": WORN, "mode": "record"}
        return self.session("start", **{**wish, **given})

    def now(self) -> dict[str, Any]:
        """The session as it is; {} while the daemon or its agent is not there."""
        try:
            return self.session("status")
        except BrainforgeError:
            return {}

    def until_state(self, *states: str) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def is_there() -> bool:
            seen.clear()
            seen.update(self.now())
            return seen.get("state") in states

        self.until(is_there, MOST_S, f"the state {' or '.join(states)}")
        return seen

    def until_recording(self) -> None:
        self.until(lambda: self.now().get("is_recording"), MOST_S, "a session that records")

    def rows(self, stream_id: str) -> int:
        """Rows of a stream that are durable."""
        return int(self.stream(stream_id).get("durable") or 0)


@contextmanager
def session_box(root: Path, *phases: tuple[str, float], uplink: str = "") -> Iterator[SessionBox]:
    """It streams, the monitor is alive, and all have agreed."""
    with box_in(root) as plain:
        box = SessionBox(plain.root, plain.run)
        for name in WORN:
            box.device(name, "openbci")
            box.emulate(name, "cyton")
        plain.children, plain.emulators = box.children, box.emulators
        box.write_config(uplink=uplink or "enabled = false")
        folder = root / "box" / "protocols"
        folder.mkdir(parents=True)
        (folder / f"{PLAN}.toml").write_text(protocol(*phases), encoding="utf-8")
        box.start()
        ready(box)
        for participant in WORN.values():
            box.session("consent", participant=participant)
        yield box


def ready(box: SessionBox) -> None:
    """Both caps send, and the monitor is alive."""
    for name in WORN:
        box.until_streaming(f"{name}-eeg", MOST_S)
    box.until(lambda: box.now().get("is_watched"), MOST_S, "the safety monitor")
