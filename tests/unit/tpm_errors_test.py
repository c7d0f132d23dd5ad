"""What a TPM's return codes mean: each has a name, a reason and a remedy, whoever in the stack gave it."""

import pytest
import tpm2_pytss as tss

from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.security.tpmerrors import meant

RC, LAYER = tss.TPM2_RC, tss.TSS2_RC
KERNEL = 11 << 16  # the resource manager in the kernel answers in the TPM's place


@pytest.mark.parametrize(
    ("rc", "code", "is_transient"),
    [
        (RC.INTEGRITY | RC.P | RC.RC1, "tpm_foreign", False),
        (RC.POLICY_FAIL | RC.S | RC.RC1, "tpm_policy", False),
        (RC.POLICY_FAIL | RC.S | RC.RC1 | KERNEL, "tpm_policy", False),
        (RC.BAD_AUTH | RC.S | RC.RC1, "tpm_owner", False),
        (RC.AUTH_FAIL | RC.S | RC.RC1, "tpm_owner", False),
        (RC.HIERARCHY | RC.RC1, "tpm_owner", False),
        (RC.LOCKOUT, "tpm_lockout", True),
        (RC.RETRY, "tpm_busy", True),
        (RC.YIELDED, "tpm_busy", True),
        (RC.TESTING, "tpm_busy", True),
        (RC.NV_RATE, "tpm_busy", True),
        (RC.OBJECT_MEMORY, "tpm_busy", True),
        (RC.SESSION_HANDLES | KERNEL, "tpm_busy", True),
        (RC.PCR_CHANGED, "tpm_busy", True),
        (RC.FAILURE, "tpm_refused", False),
        (RC.CURVE | RC.P | RC.RC1, "tpm_refused", False),
        (LAYER.TCTI_RC_IO_ERROR, "tpm_absent", True),
        (LAYER.TCTI_RC_NO_CONNECTION, "tpm_absent", True),
        (LAYER.ESYS_RC_BAD_VALUE, "tpm_refused", False),
        (LAYER.MU_RC_INSUFFICIENT_BUFFER, "tpm_refused", False),
    ],
)
def test_every_return_code_has_its_name(rc: int, code: str, *, is_transient: bool) -> None:
    error = meant(int(rc), "the library's words", what="it was not done", tcti="device:/dev/{x}")
    assert (error.code, error.transient) == (f"security.{code}", is_transient)
    assert error.exit_status == ExitStatus.SECURITY
    assert error.what == "it was not done"
    if code in {"tpm_absent", "tpm_busy", "tpm_refused"}:
        assert "device:/dev/{x}" in error.why
    if code == "tpm_refused":
        assert "the library's words" in error.why
        assert hex(rc) in error.why
