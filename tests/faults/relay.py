"""A network between a box and a device that can vanish: no FIN, no reset, only silence."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Relay:
    """Forwards TCP to `target`. What was connected when it was cut stays dead, and open, for ever."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), int(parts.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._all: list[socket.socket] = []
        self._is_cut = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self) -> None:
        self._is_cut.set()

    def mend(self) -> None:
        """For connections that are made from now on."""
        self._is_cut.clear()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._selector.close()
        for one in (*self._all, self._listener):
            one.close()

    def _run(self) -> None:
        while not self._is_over.is_set():
            for key, _ in self._selector.select(0.02):
                if self._is_cut.is_set():
                    self._kill()
                    self._is_over.wait(0.02)  # who connects meanwhile waits unheard
                    break
                if key.fileobj is self._listener:
                    self._connect()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._forward(key.fileobj)
            if self._is_cut.is_set():
                self._kill()

    def _kill(self) -> None:
        for one in self._other:
            self._selector.unregister(one)
        self._other.clear()

    def _connect(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._target)
        for one, other in ((near, far), (far, near)):
            self._other[one] = other
            self._all.append(one)
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        other = self._other.get(one)
        if other is None:
            return
        try:
            data = one.recv(65_536)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            self._selector.unregister(end)
            self._other.pop(end)
            end.close()


@contextmanager
def relay_to(target: str) -> Iterator[Relay]:
    made = Relay(target)
    try:
        yield made
    finally:
        made.close()
