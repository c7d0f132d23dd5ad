"""The door to a TPM 2: makes a key inside it, and lets it agree on secrets.

Runs in: recovery, command line tools, aggregator; each question in a thread of its own, which ends with it, so that
a TPM that does not answer costs whoever asked a bounded time. Needs the extra `tpm` (tpm2-pytss over the
libraries of tpm2-tss), imported when a TPM is first asked.

One question at a time, over all processes with keys in the same folder: a bare device serves one connection.
"""

import fcntl
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.threads import named, result_within
from brainforge_edge.security.agreement import HeldKeyUnusable
from brainforge_edge.security.tpmerrors import ABSENT, BUSY, busy, meant, pcr_absent
from brainforge_edge.security.tpmfile import N_PCRS, TpmKey, file_error, template

T = TypeVar("T")
# For a turn and an answer. What waits for recovery lies in a ring of four times that.
PATIENCE_S = 15.0
_MARGIN_S = 1.0
_AGAIN_S = 0.05
_APPEARS_S = 2.0
# TPM2B_PUBLIC of the storage key that the TPM derives from its owner seed, the same each time: P-256, AES-128-CFB,
# fixed, restricted, decrypting, noDA. It wraps our keys: part of the file format.
_PARENT = bytes.fromhex("001a 0023 000b 00030472 0000 0006 0080 0043 0010 0003 0010 0000 0000")


class Tpm:
    """How one TPM is reached. Every method: SecurityError says what it refused, or that it is not there."""

    def __init__(
        self, tcti: str, turn: Path, clock: Clock, *, patience_s: float = PATIENCE_S
    ) -> None:
        """`turn`: a file or folder that is locked while it is asked, by all processes that name the same."""
        self._tcti = tcti
        self._turn = turn
        self._clock = clock
        self._patience_s = patience_s

    def make_key(self, pcrs: Sequence[int], what: str) -> TpmKey:
        """A new P-256 key inside it, bound to what these PCRs (SHA-256 bank) hold now."""

        def make(tss: Any, tpm: Any) -> TpmKey:
            absent = sorted(set(pcrs) - _measured(tss, tpm)) if pcrs else []
            if absent:
                raise pcr_absent(absent[0], what, self._tcti)
            with ExitStack() as loaded:
                policy = _policy(tss, tpm, pcrs, loaded, is_trial=True)
                digest = b"" if policy is None else bytes(tpm.policy_get_digest(policy))
                parent = _parent(tss, tpm, loaded)
                public, _ = tss.TPM2B_PUBLIC.unmarshal(template(digest))
                private, public, *_ = tpm.create(parent, tss.TPM2B_SENSITIVE_CREATE(), public)
                return TpmKey(public.marshal(), private.marshal(), tuple(pcrs))

        return self._asked(make, what)

    def agree(self, key: TpmKey, peer: bytes, what: str) -> bytes:
        """x (32 bytes) of the point that `key` and `peer` (65 bytes) share; ValueError if that is no point."""
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer)

        def agree(tss: Any, tpm: Any) -> bytes:
            with ExitStack() as loaded:
                parent = _parent(tss, tpm, loaded)
                private, _ = tss.TPM2B_PRIVATE.unmarshal(key.private)
                public, _ = tss.TPM2B_PUBLIC.unmarshal(key.public)
                handle = _kept(tpm.load(parent, private, public), tpm, loaded, tss)
                point = tss.TPM2B_ECC_POINT(tss.TPMS_ECC_POINT(x=peer[1:33], y=peer[33:]))
                policy = _policy(tss, tpm, key.pcrs, loaded, is_trial=False)
                shared = tpm.ecdh_zgen(
                    handle,
                    point,
                    session1=tss.ESYS_TR.PASSWORD if policy is None else policy,
                    session2=_veil(tss, tpm, parent, loaded),
                )
                return bytes(shared.point.x).rjust(32, b"\0")

        return self._asked(agree, what)

    def _asked(self, question: Callable[[Any, Any], T], what: str) -> T:
        answer: Future[T] = Future()
        until_ns = self._clock.monotonic_ns() + round(self._patience_s * 1e9)

        def ask() -> None:
            try:
                with self._taken_turn(until_ns, what):
                    answer.set_result(self._answered(question, until_ns, what))
            except BaseException as error:  # noqa: BLE001  outermost loop of this thread: who asked raises it
                answer.set_exception(error)

        # A daemon: nothing ends a call into a library that waits for a TPM. It keeps the turn meanwhile, so that
        # whoever asks next is told in time and no second thread is stuck beside it.
        named("tpm", ask, daemon=True).start()
        try:
            return result_within(answer, self._patience_s + _MARGIN_S, self._clock)
        except TimeoutError as error:
            raise busy(what, self._tcti) from error

    def _answered(self, question: Callable[[Any, Any], T], until_ns: int, what: str) -> T:
        """Asked again while it is busy, and for a moment where it does not answer: at a start it may come late."""
        tss = _library(what)
        absent_until_ns = min(until_ns, self._clock.monotonic_ns() + round(_APPEARS_S * 1e9))
        while True:
            try:
                tpm = tss.ESAPI(self._tcti)
                try:
                    return question(tss, tpm)
                finally:
                    tpm.close()
            except tss.TSS2_Exception as error:
                told = meant(error.rc, str(error), what=what, tcti=self._tcti)
                waits_until_ns = {
                    f"security.{BUSY}": until_ns,
                    f"security.{ABSENT}": absent_until_ns,
                }
                if self._clock.monotonic_ns() >= waits_until_ns.get(told.code, 0):
                    raise told from error
            self._clock.sleep(_AGAIN_S)

    @contextmanager
    def _taken_turn(self, until_ns: int, what: str) -> Iterator[None]:
        try:
            turn = os.open(self._turn, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise file_error(self._turn, error) from error
        try:
            while not _is_locked(turn):
                if self._clock.monotonic_ns() >= until_ns:
                    raise busy(what, self._tcti)
                self._clock.sleep(_AGAIN_S)
            yield
        finally:
            os.close(turn)


def _is_locked(turn: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _library(what: str) -> Any:
    os.environ.setdefault("TSS2_LOG", "all+none")  # else it tells stderr what its codes say
    try:
        return importlib.import_module("tpm2_pytss")
    except ImportError as error:
        raise HeldKeyUnusable(
            "tpm_package",
            what,
            why="the package tpm2-pytss is not installed, or not for the libtss2 that is here",
            remedy="Install libtss2-dev, and then brainforge-edge[tpm]",
        ) from error


def _kept(handle: Any, tpm: Any, loaded: ExitStack, tss: Any) -> Any:
    """The handle; the TPM has room for few: it is flushed at the end, unless the TPM is gone."""

    def flush() -> None:
        with suppress(tss.TSS2_Exception):
            tpm.flush_context(handle)

    loaded.callback(flush)
    return handle


def _parent(tss: Any, tpm: Any, loaded: ExitStack) -> Any:
    public, _ = tss.TPM2B_PUBLIC.unmarshal(_PARENT)
    handle, *_ = tpm.create_primary(tss.TPM2B_SENSITIVE_CREATE(), public)
    return _kept(handle, tpm, loaded, tss)


def _measured(tss: Any, tpm: Any) -> set[int]:
    """PCRs that it keeps a SHA-256 of: a policy over another one holds whatever is booted."""
    _, found = tpm.get_capability(tss.TPM2_CAP.PCRS, 0, 16)
    banks = [bank for bank in found.data.assignedPCR if bank.hash == tss.TPM2_ALG.SHA256]
    return {n for bank in banks for n in range(N_PCRS) if bank.pcrSelect[n // 8] >> n % 8 & 1}


def _policy(
    tss: Any, tpm: Any, pcrs: Sequence[int], loaded: ExitStack, *, is_trial: bool
) -> Any | None:
    """A session in which the PCRs hold what they hold; None without any."""
    if not pcrs:
        return None
    session = tpm.start_auth_session(
        tss.ESYS_TR.NONE,
        tss.ESYS_TR.NONE,
        tss.TPM2_SE.TRIAL if is_trial else tss.TPM2_SE.POLICY,
        tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL),
        tss.TPM2_ALG.SHA256,
    )
    _kept(session, tpm, loaded, tss)
    chosen = tss.TPML_PCR_SELECTION.parse(f"sha256:{','.join(map(str, pcrs))}")
    tpm.policy_pcr(session, tss.TPM2B_DIGEST(), chosen)
    return session


def _veil(tss: Any, tpm: Any, parent: Any, loaded: ExitStack) -> Any:
    """A session that encrypts the answer, so that nobody reads the secret off the wires to the chip."""
    session = tpm.start_auth_session(
        parent,
        tss.ESYS_TR.NONE,
        tss.TPM2_SE.HMAC,
        tss.TPMT_SYM_DEF(
            algorithm=tss.TPM2_ALG.AES,
            keyBits=tss.TPMU_SYM_KEY_BITS(aes=128),
            mode=tss.TPMU_SYM_MODE(aes=tss.TPM2_ALG.CFB),
        ),
        tss.TPM2_ALG.SHA256,
    )
    _kept(session, tpm, loaded, tss)
    tpm.trsess_set_attributes(session, tss.TPMA_SESSION.ENCRYPT | tss.TPMA_SESSION.CONTINUESESSION)
    return session
