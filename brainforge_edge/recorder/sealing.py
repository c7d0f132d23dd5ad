"""Data keys for what is recorded now: made in memory, wrapped to public keys. Runs in: acquire and agent process.

Each process makes its own for a recording and participant, since none of them can open what another
one (or its own life before a crash) wrapped: recording needs no secret.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from brainforge_edge.core import log
from brainforge_edge.core.config import EdgeConfig, SealConfig
from brainforge_edge.core.errors import BrainforgeError, SecurityError, StorageError
from brainforge_edge.recorder.desiredfile import now_recipients
from brainforge_edge.recorder.keyfile import add_key
from brainforge_edge.security.keystore import (
    PRIVATE_SUFFIX,
    PUBLIC_SUFFIX,
    held_at,
    is_absent,
    make_pair,
    public_pem,
    read_private,
    read_regular,
)
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import KeyEntry, Recipient, make_data_key, read_public, wrap
from brainforge_edge.storage.files import Disk

BOX = "box"
AGGREGATOR = "aggregator"
RECOVERY = "recovery"
KEYS_FOLDER = "keys"  # below the node's root: the box's own pair

_log = log.get()


class Sealing:
    """`key_for` a recording: the same one until it is asked for another recording or participant."""

    def __init__(
        self,
        recipients: Sequence[Recipient],
        *,
        device: str,
        recordings: Path,
        log_id: bytes,
        disk: Disk,
        random: Callable[[int], bytes],
        now: Callable[[tuple[Recipient, ...]], tuple[Recipient, ...]] = lambda named: named,
        own: "_Own | None" = None,
    ) -> None:
        """`now`: who is meant at that moment, of those who were named at the start. `own`: the box itself."""
        self._recipients = tuple(recipients)
        self._now = now
        self._own = own
        self._device = device
        self._recordings = recordings
        self._log_id = log_id
        self._disk = disk
        self._random = random
        self._made: tuple[str, str, DataKey] | None = None

    @property
    def error(self) -> BrainforgeError | None:
        """Why what is recorded is not sealed for the box itself; it is for others, or is not recorded."""
        failed = None if self._own is None else self._own.error
        if failed is None or isinstance(failed, StorageError):
            return failed
        return SecurityError(
            "own_key_unusable",
            "what is recorded now cannot be opened at this box: not for an export here, nor after a crash",
            why=f"{failed.what}: {failed.why}; what is sealed for others is recorded as always",
            remedy=f"{failed.remedy}; the next recording is sealed for this box again",
        )

    def key_for(self, recording: str, participant: str) -> DataKey:
        """A data key whose wrapped form is on the disk. StorageError if it cannot be put there; SecurityError
        where nobody is there to be sealed for."""
        if self._made is not None and self._made[:2] == (recording, participant):
            return self._made[2]
        recipients = self._now(self._recipients)
        if not recipients:
            raise self._nobody()
        key = make_data_key(self._random)
        entry = KeyEntry(
            key_id=key.key_id.hex(),
            participant=participant,
            device=self._device,
            wrapped=wrap(key, self._log_id, recipients),
        )
        done = add_key(self._recordings / recording, entry, self._log_id, self._disk)
        if done.set_aside is not None:
            _log.error(
                "keys file damaged, set aside", recording=recording, **done.set_aside._asdict()
            )
        if done.unwiped is not None:
            _log.warning("old keys file not overwritten yet", error=str(done.unwiped))
        self._made = (recording, participant, key)
        return key

    def _nobody(self) -> BrainforgeError:
        failed = None if self._own is None else self._own.error
        if isinstance(failed, StorageError):
            return failed
        return SecurityError(
            "no_recipient",
            "nothing is recorded",
            why=f"nobody could ever open it: {failed.what}, {failed.why}"
            if failed
            else "no key is there to seal for",
            remedy=failed.remedy if failed else "Name `box`, `aggregator` or `recovery` in [seal]",
        )


class _Own:
    """The box's own public key, asked for again until it can be used."""

    def __init__(self, find: Callable[[], Recipient]) -> None:
        self._find = find
        self._known: tuple[Recipient, ...] = ()
        self.error: BrainforgeError | None = None

    def now(self) -> tuple[Recipient, ...]:
        """Nobody while it cannot be used: `error` says why."""
        if not self._known:
            try:
                self._known, self.error = (self._find(),), None
            except (SecurityError, StorageError) as error:
                _log.error("not sealed for the box itself", **error.as_dict())
                self.error = error
        return self._known


def sealing_of(
    config: EdgeConfig,
    device: str,
    *,
    log_id: bytes,
    disk: Disk,
    random: Callable[[int], bytes],
) -> Sealing | None:
    """As `[seal]` says; None where it is off. SecurityError for a token that is none.

    A box that waits for its enrolment seals for itself; keys that came since are for the next data key.
    A file that was spoilt, of somebody else or of the box itself, stops no recording while another can be used.
    """
    if not config.seal.enabled:
        return None
    root = Path(config.node.root)
    _check_token(config.seal)
    own = _Own(lambda: own_recipient(config.seal, root, disk))
    return Sealing(
        _others_now(config.seal, own.now()),
        device=device,
        recordings=root / "recordings",
        log_id=log_id,
        disk=disk,
        random=random,
        now=lambda named: now_recipients(
            _others_now(config.seal, (*own.now(), *named)), root, disk
        ),
        own=own,
    )


def _others_now(config: SealConfig, named: tuple[Recipient, ...]) -> tuple[Recipient, ...]:
    """Those `named`, and the others as their files say now; of a file that cannot be used, who was named."""
    found = {each.role: each for each in named}
    for role, name in ((AGGREGATOR, config.aggregator), (RECOVERY, config.recovery)):
        if not name or is_absent(Path(name)):
            continue
        try:
            found[role] = public_key(Path(name), role)
        except SecurityError as error:
            _log.error("key of a recipient not read", **error.as_dict())
    return tuple(found.values())


def own_recipient(config: SealConfig, root: Path, disk: Disk) -> Recipient:
    """The box itself. Makes its pair if it has none, and no token or TPM is to hold its own."""
    return public_key(Path(config.box), BOX) if config.box else _own(root / KEYS_FOLDER, disk)


def configured(config: SealConfig, *, own_alone: bool = False) -> tuple[Recipient, ...]:
    """Whose public keys `[seal]` names; SecurityError for one that cannot be used, or a token that is none.

    `own_alone`: those of others are looked at only where the box's own cannot be used, and one of them is enough.
    """
    _check_token(config)
    others = ((AGGREGATOR, config.aggregator), (RECOVERY, config.recovery))
    if not own_alone:
        named = ((BOX, config.box), *others)
        return tuple(public_key(Path(name), role) for role, name in named if name)
    try:
        return (public_key(Path(config.box), BOX),) if config.box else ()
    except SecurityError:
        found = _others_now(config, ())
        if not found:
            raise
        return found


def _check_token(config: SealConfig) -> None:
    if config.token and held_at(config.token) is None:
        raise SecurityError(
            "token_uri",
            f"{config.token} names no key in a token or TPM",
            why="it begins with neither pkcs11: nor tpm2:",
            remedy="Correct `token` in [seal]; private keys in a folder are found without it",
        )
    if config.token and not config.box:
        raise SecurityError(
            "no_box_key",
            f"the key {config.token} was not used",
            why="nothing would be sealed for it: the box would make another one, in a file",
            remedy="Name its public half, the .pem that was made with it, as `box` in [seal]",
        )


def prove_own(config: SealConfig) -> None:
    """That the key in a token or TPM which `[seal]` names can be used now, and what is sealed for the box is sealed
    for it. SecurityError. Not asked before recording, which needs no secret."""
    held = held_at(config.token) if config.token else None
    if held is None:
        return
    own, sealed_for = Recipient(BOX, held.public_pem()), public_key(Path(config.box), BOX)
    if own.id != sealed_for.id:
        raise SecurityError(
            "not_its_public_half",
            f"the key {config.token} was not used",
            why=f"it is {own.id}, and {config.box} is the public half of {sealed_for.id}",
            remedy="Correct `box` or `token` in [seal]; keys public writes the .pem of a key",
        )
    held.prove()


def public_key(path: Path, role: str) -> Recipient:
    """A recipient from a PEM file; SecurityError if it is none."""
    try:
        pem = read_regular(path)
    except OSError as error:
        raise SecurityError(
            "not_a_public_key",
            f"the public key of {role}, {path}, cannot be read",
            why=str(error.strerror).lower(),
            remedy=f"Put it there, or correct `{role}` in [seal]",
        ) from error
    read_public(pem, str(path))
    return Recipient(role, pem)


def _own(folder: Path, disk: Disk) -> Recipient:
    """Its public half is made again where it is missing or torn: a private key that may open something stays."""
    public, private = folder / f"{BOX}{PUBLIC_SUFFIX}", folder / f"{BOX}{PRIVATE_SUFFIX}"
    with suppress(SecurityError):  # usually all is there, perhaps in a folder that may only be read
        return public_key(public, BOX)
    disk.make_folder(folder)
    with disk.exclusive(folder / ".lock"):
        names = disk.names(folder)
        if public.name in names:
            try:
                return public_key(public, BOX)
            except SecurityError:
                if private.name not in names:
                    raise
        if private.name in names:
            if b"-----END" in disk.read_file(private):
                pem = public_pem(read_private(private, is_guarded=True))
                if public.name in names:
                    disk.unlink(public)
                disk.write_new(public, pem, 0o644)
                return Recipient(BOX, pem)
            disk.unlink(private)  # cut off while it was written: it was never used
        return make_pair(folder, BOX, disk.write_new)
