"""Which box speaks for which log; a second live one is a clone. Runs in: ingest, writer thread. Pure.

A hello under a new connection is believed at once when the old one said goodbye (its Will counts).
Otherwise everyone at that node is asked who is there: if the old connection answers, the new one is
refused; if it stays silent for `probe_s`, it is dead.
"""

from dataclasses import dataclass

from brainforge_edge.core.wire import Hello

PROBE_S = 2.0


@dataclass(slots=True)
class _Candidate:
    hello: Hello
    deadline: float


class LogRegistry:
    """Connections by log id, and the verdict on each hello."""

    def __init__(self, *, probe_s: float = PROBE_S) -> None:
        self.clones = 0
        self._probe_s = probe_s
        self._live: dict[bytes, str] = {}
        self._candidates: dict[bytes, _Candidate] = {}

    def forget(self) -> None:
        """Our own link was down: goodbyes may have been missed, so nobody is known to live."""
        self._live.clear()
        self._candidates.clear()

    def hear(self, hello: Hello, now: float) -> tuple[str, Hello | None]:
        """("welcome" | "probe" | "wait" | "gone", a rival hello to be refused as a clone or None)."""
        live = self._live.get(hello.log_id)
        candidate = self._candidates.get(hello.log_id)
        if hello.leaving:
            if live == hello.connection:
                del self._live[hello.log_id]
            if candidate is not None and candidate.hello.connection == hello.connection:
                del self._candidates[hello.log_id]
            return "gone", None
        if live is None or live == hello.connection:
            self._live[hello.log_id] = hello.connection
            if candidate is None:
                return "welcome", None
            del self._candidates[hello.log_id]
            if candidate.hello.connection == hello.connection:
                return "welcome", None
            self.clones += 1
            return "welcome", candidate.hello
        if candidate is not None and candidate.hello.connection == hello.connection:
            candidate.hello = hello
            return "wait", None
        self._candidates[hello.log_id] = _Candidate(hello, now + self._probe_s)
        return "probe", None

    def ripe(self, now: float) -> list[Hello]:
        """Candidates whose rival stayed silent: they take over."""
        ripe = [c.hello for c in self._candidates.values() if c.deadline <= now]
        for hello in ripe:
            del self._candidates[hello.log_id]
            self._live[hello.log_id] = hello.connection
        return ripe
