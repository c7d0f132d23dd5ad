"""Commands to a Muse and its replies: length-prefixed ASCII there, JSON in pieces back. No I/O.

Runs in: acquire process, pull thread.
"""

import json
from typing import Any

_MOST_BYTES = 4096


def command(text: str) -> bytes:
    """`[length][ASCII][newline]`; the length counts the newline, not itself."""
    body = text.encode("ascii") + b"\n"
    return bytes([len(body)]) + body


class Replies:
    """Puts the pieces together. What is no JSON object is counted in `garbage` and left out."""

    def __init__(self) -> None:
        self.garbage = 0
        self._text = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Replies that this notification completes: byte 0 says how many of the others count."""
        if not data or data[0] > len(data) - 1:
            self.garbage += 1
            return []
        self._text += data[1 : 1 + data[0]]
        found = []
        while b"}" in self._text:
            text, _, self._text = self._text.partition(b"}")
            start = text.rfind(b"{")
            try:
                reply = json.loads(text[max(0, start) :] + b"}")
            except (ValueError, RecursionError):  # nested too deeply
                self.garbage += 1
                continue
            found.append(reply)
        if len(self._text) > _MOST_BYTES:
            self.garbage += 1
            self._text = b""
        return found
