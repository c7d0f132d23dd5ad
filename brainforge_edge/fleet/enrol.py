"""How a box gets its certificate: request out, answer in, by files or over the network. Runs in: CLI process; agent process, thread `renew`.

The uplink goes on with the old pair until the answer is installed, and reads the files anew for each
connection: nothing is restarted, and no recording hears of it. Whoever is killed on the way, or loses
the answer, goes on with the request that was kept: the authority answers it again.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import BrainforgeError, ConfigError, SecurityError, StorageError
from brainforge_edge.fleet.sitekeys import Placed, differing, place, places
from brainforge_edge.recorder.desiredfile import now_site_keys
from brainforge_edge.security.certificates import (
    Certificate,
    PrivateKey,
    key_pem,
    make_key,
    pem,
    public_der,
    public_of,
    read_certificate,
)
from brainforge_edge.security.enrolment import (
    Accepted,
    Token,
    accept,
    ask,
    ask_again,
    certified,
    is_still_good,
)
from brainforge_edge.security.keystore import read_private
from brainforge_edge.security.sitekeys import SiteKeys
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.storage.files import Disk


class Installed(NamedTuple):
    """What came with an answer."""

    certificate: Certificate
    keys: dict[str, Placed]  # of the site, by role
    given: SiteKeys
    error: BrainforgeError | None = None  # why a key could not be written, at a renewal


class _Pending(NamedTuple):
    """A request that was made, and what its certificate will belong to."""

    key: Path
    request: Path

    @classmethod
    def beside(cls, key: Path, more: str) -> "_Pending":
        name = f"{key.name}{more}"
        return cls(key.with_name(f"{name}.next"), key.with_name(f"{name}.request"))


class Enrolment:
    """Of one box, by its configuration.

    A person's request, with a token, and a renewal have a place each: neither takes the other's key,
    whose certificate may be on its way. A person's answer ends a renewal, and no renewal ends a person's.
    """

    def __init__(self, config: EdgeConfig, disk: Disk) -> None:
        files = TlsFiles.of(config.uplink.tls)
        if files is None:
            raise ConfigError(
                "no_tls",
                "the box cannot be enrolled",
                why="its configuration does not say where certificate and key are to lie",
                remedy="Name the three files in [uplink.tls]: ca, certificate, key",
            )
        self._name = config.node.id
        self._files = files
        self._renewing = _Pending.beside(files.key, "")
        self._by_token = _Pending.beside(files.key, ".token")
        self._lock = files.key.with_name(f".{files.key.name}.lock")
        self._places = places(config)
        self._root = Path(config.node.root)
        self._disk = disk

    @property
    def ca(self) -> Path:
        """Where the authority's certificate lies, or will lie."""
        return self._files.ca

    def request(self, token: Token | None) -> bytes:
        """A new key, kept beside the present one, and the request for it; without a token a renewal.

        The same again as long as its answer may come: only another token, or certificate, makes a new one.
        """
        with self._locked():
            return self._request(token)

    def install(self, answer: bytes, token: Token | None) -> Installed:
        """Put the answer in place; again after a power cut, it finishes what was begun."""
        with self._locked():
            return self._install(answer, token)

    def now(
        self, token: Token | None, exchange: Callable[[bytes], bytes], *, keeps: bool = False
    ) -> Installed:
        """Request, exchange and installation. After a lost answer the same request is sent again.

        Also after a no, which may be a stranger's, if it is by a token or the caller `keeps` it.
        """
        with self._locked():
            request = self._request(token)
            try:
                answer = exchange(request)
            except SecurityError:
                if token is None and not keeps:
                    self._forget(self._renewing.request)
                raise
            return self._install(answer, token)

    def finish(self) -> None:
        """Put the new key in place where whoever installed its certificate did not come to it."""
        if not any(map(self._is_there, self._keys)):
            return
        with self._locked():
            path = self._files.certificate
            if not self._is_there(path):
                return
            try:
                of = public_of(read_certificate(self._disk.read_file(path), str(path)))
            except SecurityError:
                return
            pending = self._pending(of)
            if pending is not None:
                self._put(pending)

    def certificate(self) -> Certificate:
        """The one that is in use."""
        return self._files.own()

    def differing(self, given: SiteKeys) -> list[str]:
        """Roles of the site's keys that are others here, as it stands now. StorageError."""
        standing = now_site_keys(self._root, self._disk)
        return differing(given, self._places, self._disk, standing)

    def _request(self, token: Token | None) -> bytes:
        pending = self._renewing if token is None else self._by_token
        again = self._request_again(pending, token)
        if again is not None:
            return again
        key = make_key()
        if token is not None:
            request = ask(key, self._name, token)
        else:
            own = self._files.own()
            request = ask_again(key, self._name, (read_private(self._files.key), own))
        self._forget(pending.key)
        self._disk.write_new(pending.key, key_pem(key), 0o600)
        self._disk.atomic_write(pending.request, request)
        return request

    def _request_again(self, pending: _Pending, token: Token | None) -> bytes | None:
        """The request that was kept, if this token or certificate still vouches for it."""
        if not all(map(self._is_there, pending)):
            return None
        try:
            key = read_private(pending.key)
            vouched = token or (read_private(self._files.key), self._files.own())
        except SecurityError:
            return None
        request = self._disk.read_file(pending.request)
        return request if is_still_good(request, key, vouched) else None

    def _install(self, answer: bytes, token: Token | None) -> Installed:
        pending = self._pending(certified(answer))
        if pending is not None:
            path = pending.key
        else:  # that of an answer which is in place already, or of another key, which is said then
            path = next(filter(self._is_there, (self._files.key, *self._keys)), self._files.key)
        key = read_private(path)
        said = accept(answer, name=self._name, key=key, token=token, known=self._known_authority())
        keys, error = self._place(said)
        if pending is not None:
            for path, one in (
                (self._files.ca, said.ca),
                (self._files.certificate, said.certificate),
            ):
                self._disk.make_folder(path.parent)
                self._disk.atomic_write(path, pem(one))
            self._put(pending)
        return Installed(said.certificate, keys, said.keys, error)

    def _pending(self, of: bytes) -> _Pending | None:
        """Whose key a certificate is of."""
        for pending in (self._by_token, self._renewing):
            if self._is_there(pending.key):
                try:
                    if _public(read_private(pending.key)) == of:
                        return pending
                except SecurityError:  # who was killed while writing it had not asked with it yet
                    continue
        return None

    def _put(self, pending: _Pending) -> None:
        """The certificate of its key is in place. A renewal vouched for by the one before is over."""
        self._disk.rename(pending.key, self._files.key)
        self._forget(pending.request)
        for path in self._renewing:
            self._forget(path)

    @property
    def _keys(self) -> tuple[Path, Path]:
        return self._by_token.key, self._renewing.key

    def _place(self, said: Accepted) -> tuple[dict[str, Placed], BrainforgeError | None]:
        """A person who enrols is told at once; a renewal is more than the keys beside it."""
        try:
            done = place(
                said.keys, self._places, self._disk, may_replace=said.is_by_token,
                standing=now_site_keys(self._root, self._disk),
            )  # fmt: skip
            return done, None
        except StorageError as error:
            if said.is_by_token:
                raise
            return {}, error

    def _known_authority(self) -> Certificate | None:
        path = self._files.ca
        if not self._is_there(path):
            return None
        return read_certificate(self._disk.read_file(path), str(path))

    def _forget(self, path: Path) -> None:
        if self._is_there(path):
            self._disk.unlink(path)

    def _is_there(self, path: Path) -> bool:
        return path.name in self._disk.names(path.parent)

    def _locked(self) -> AbstractContextManager[None]:
        """A command and the agent do not write at the same time."""
        self._disk.make_folder(self._lock.parent)
        locked: AbstractContextManager[None] = self._disk.exclusive(self._lock)
        return locked


def _public(key: PrivateKey) -> bytes:
    return public_der(key.public_key())
