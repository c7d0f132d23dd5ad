"""A TPM 2 that is a program (swtpm): switched on and off, measured into, locked."""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import tpm2_pytss as tss

os.environ.setdefault("TSS2_LOG", "all+none")  # before its library speaks for the first time


class SoftTpm:
    """One TPM: what it is lies in `folder`, and outlives its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "socket"

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self.socket}"

    def uri(self, key: Path) -> str:
        return f"tpm2:{key}?tcti={self.tcti}"

    def start(self) -> None:
        """Switch it on; its PCRs begin anew."""
        assert self._process is None
        for path in self._sockets():
            path.unlink(missing_ok=True)
        server, control = self._sockets()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}",
                 "--server", f"type=unixio,path={server}",
                 "--ctrl", f"type=unixio,path={control}",
                 "--flags", "not-need-init,startup-clear"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 60
        while not self._is_answering():
            assert time.monotonic() < until, (self._folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, (self._folder / "log").read_text(errors="replace")
            time.sleep(0.02)

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Somebody else who speaks to it."""
        tpm = tss.ESAPI(self.tcti)
        try:
            yield tpm
        finally:
            tpm.close()

    def extend(self, pcr: int) -> None:
        """As firmware does that measures something else than before."""
        with self.connected() as tpm:
            digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=b"\1" * 32))
            tpm.pcr_extend(tss.ESYS_TR(pcr), tss.TPML_DIGEST_VALUES([digest]))

    def lock_out(self) -> None:
        """As after one wrong password too many."""
        with self.connected() as tpm:
            tpm.dictionary_attack_parameters(0, 1000, 1000)

    def held(self) -> list[int]:
        """Handles of keys and sessions that are in it."""
        found: list[int] = []
        with self.connected() as tpm:
            for first in (tss.TPM2_HC.TRANSIENT_FIRST, tss.TPM2_HC.LOADED_SESSION_FIRST):
                _, data = tpm.get_capability(tss.TPM2_CAP.HANDLES, first, 32)
                found += list(data.data.handles)
        return found

    def _sockets(self) -> tuple[Path, Path]:
        return self.socket, self.socket.with_name("socket.ctrl")

    def _is_answering(self) -> bool:
        try:
            with self.connected() as tpm:
                tpm.get_random(1)
        except tss.TSS2_Exception:
            return False
        return True


class Relay:
    """The wires to a TPM: what passes can be read, and the TPM be made to say that it is busy."""

    def __init__(self, tpm: SoftTpm) -> None:
        self._tpm = tpm
        self._path = tpm.socket.with_name("relay")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(8)
        self._control = self._path.with_name("relay.ctrl")
        self._control.symlink_to(tpm.socket.with_name("socket.ctrl"))
        self._thread = threading.Thread(target=self._serve)
        self.busy: deque[int] = deque()  # return codes in place of the next answers
        self.passed = b""

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self._path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()
        self._path.unlink()
        self._control.unlink()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with near:
                    self._pass_on(near)

    def _pass_on(self, near: socket.socket) -> None:
        while command := _message(near):
            if self.busy:
                near.sendall(struct.pack(">HII", 0x8001, 10, self.busy.popleft()))
                continue
            with socket.socket(socket.AF_UNIX) as far:
                far.connect(str(self._tpm.socket))
                far.sendall(command)
                answer = _message(far)
            self.passed += command + answer
            near.sendall(answer)


def _message(peer: socket.socket) -> bytes:
    """A command or an answer: its length stands behind a tag of two bytes. b"" at the end."""
    data = b""
    while len(data) < 6 or len(data) < int.from_bytes(data[2:6], "big"):
        part = peer.recv(4096)
        if not part:
            return b""
        data += part
    return data


@contextmanager
def software_tpm() -> Iterator[SoftTpm]:
    """Switched on; a socket's path must be short, so it lies in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bf-tpm-"))
    tpm = SoftTpm(folder)
    try:
        tpm.start()
        yield tpm
    finally:
        tpm.stop()
        shutil.rmtree(folder, ignore_errors=True)
