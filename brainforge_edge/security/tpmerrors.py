"""What a TPM's answers mean for whoever wanted a key used. Runs in: any process. No I/O.

Numbers are of the TPM 2.0 library, part 2 (TPM_RC), and of the TSS overview (layers in the upper half).
"""

from typing import NamedTuple

from brainforge_edge.security.agreement import HeldKeyUnusable

_TPM_LAYERS = {0, 11, 12}  # the TPM, and resource managers that answer in its place
_TCTI_LAYER = 10  # the way to it
_FORMAT_1 = 0x80  # then bits 6 and 8 to 11 say which handle, parameter or session it is about
_WARNINGS = range(0x900, 0x940)
_LOCKOUT = 0x921
_PCR_CHANGED = 0x128  # between two commands of ours
ABSENT, BUSY = "tpm_absent", "tpm_busy"


class _Meaning(NamedTuple):
    code: str
    why: str
    remedy: str
    is_transient: bool = False


_ABSENT = _Meaning(
    ABSENT,
    "no TPM answers at {tcti}",
    "See that it is switched on, that tcti is right and that this user may open it (group tss)",
    True,
)
_BUSY = _Meaning(
    BUSY,
    "the TPM at {tcti} is busy or does not answer",
    "Try again; if that does not help use the kernel's resource manager, /dev/tpmrm0, or start the machine again",
    True,
)
_MEANINGS = {
    0x9F: _Meaning(  # INTEGRITY
        "tpm_foreign",
        "it was made in another TPM than that at {tcti}, or this one was cleared since",
        "Put the board back that it was made on, or use the recovery key; then make a new pair",
    ),
    0x9D: _Meaning(  # POLICY_FAIL
        "tpm_policy",
        "its PCRs do not hold what they held when it was made: firmware or what boots was changed",
        "Boot what was booted then, or use the recovery key and make a new pair",
    ),
    _LOCKOUT: _Meaning(
        "tpm_lockout",
        "the TPM at {tcti} is locked out after wrong passwords",
        "Wait until it is over, or end it with tpm2_dictionarylockout --clear-lockout",
        True,
    ),
}
_OWNER = _Meaning(
    "tpm_owner",
    "the owner hierarchy of the TPM at {tcti} has a password or is switched off",
    "Take the password away (tpm2_changeauth -c owner), or switch it on in the firmware",
)
_MEANINGS |= dict.fromkeys((0x85, 0x8E, 0xA2), _OWNER)  # HIERARCHY, AUTH_FAIL, BAD_AUTH


def meant(rc: int, said: str, *, what: str, tcti: str) -> HeldKeyUnusable:
    """The error for a return code; `said` is the library's text of it, `what` did not happen."""
    layer, number = rc >> 16, rc & 0xFFFF
    if layer == _TCTI_LAYER:
        return _told(_ABSENT, what, tcti)
    if layer in _TPM_LAYERS:
        if number & _FORMAT_1:
            number = _FORMAT_1 | number & 0x3F
        if number in _MEANINGS:
            return _told(_MEANINGS[number], what, tcti)
        if number in _WARNINGS or number == _PCR_CHANGED:
            return busy(what, tcti)
    return HeldKeyUnusable(
        "tpm_refused",
        what,
        why=f"the TPM at {tcti} refused: {said} ({rc:#x})",
        remedy="See whether it does P-256, and what its firmware's settings say of it",
    )


def busy(what: str, tcti: str) -> HeldKeyUnusable:
    """No turn, or no answer, in time."""
    return _told(_BUSY, what, tcti)


def pcr_absent(pcr: int, what: str, tcti: str) -> HeldKeyUnusable:
    """The TPM would not see it change."""
    return HeldKeyUnusable(
        "tpm_pcr",
        what,
        why=f"the TPM at {tcti} keeps no SHA-256 of PCR {pcr}: the key would be bound to nothing",
        remedy="Switch that bank on, in the firmware or with tpm2_pcrallocate, or name another PCR",
    )


def _told(meaning: _Meaning, what: str, tcti: str) -> HeldKeyUnusable:
    return HeldKeyUnusable(
        meaning.code,
        what,
        why=meaning.why.replace("{tcti}", tcti),
        remedy=meaning.remedy,
        transient=meaning.is_transient,
    )
