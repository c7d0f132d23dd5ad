"""One root for every error a person can meet: what happened, why, what to do, with a code and an exit status."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of `brainforge-edge`; the table in `docs/operator.md` repeats them."""

    OK = 0
    FAILED = 1  # a check said no: damaged recording, account that does not add up
    USAGE = 2
    CONFIG = 10
    DEVICE = 11
    STORAGE = 12
    TRANSPORT = 13
    SECURITY = 14
    SESSION = 15
    FLEET = 16
    CLOUD = 17
    NO_DAEMON = 20


class BrainforgeError(Exception):
    """Root of our errors.

    `code` is stable (`family.reason`), `transient` says whether trying again can help, `facts` are
    for machines. `str(error)` is one sentence: what happened, why, and what to do.
    """

    exit_status = ExitStatus.FAILED
    family = "error"

    def __init__(
        self,
        code: str,
        what: str,
        *,
        why: str,
        remedy: str,
        transient: bool = False,
        **facts: object,
    ) -> None:
        super().__init__(what, why, remedy)
        self.code = f"{self.family}.{code}"
        self.what = what
        self.why = why
        self.remedy = remedy
        self.transient = transient
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.what}: {self.why}. {self.remedy}."

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.as_dict()))

    def as_dict(self) -> dict[str, object]:
        """What travels over IPC and in `--json`."""
        return {
            "code": self.code,
            "what": self.what,
            "why": self.why,
            "remedy": self.remedy,
            "transient": self.transient,
            "facts": {key: str(value) for key, value in self.facts.items()},
        }


class ConfigError(BrainforgeError):
    family = "config"
    exit_status = ExitStatus.CONFIG


class DeviceError(BrainforgeError):
    family = "device"
    exit_status = ExitStatus.DEVICE


class StorageError(BrainforgeError):
    family = "storage"
    exit_status = ExitStatus.STORAGE


class TransportError(BrainforgeError):
    family = "transport"
    exit_status = ExitStatus.TRANSPORT


class SecurityError(BrainforgeError):
    family = "security"
    exit_status = ExitStatus.SECURITY


class SessionError(BrainforgeError):
    family = "session"
    exit_status = ExitStatus.SESSION


class FleetError(BrainforgeError):
    family = "fleet"
    exit_status = ExitStatus.FLEET


class CloudError(BrainforgeError):
    family = "cloud"
    exit_status = ExitStatus.CLOUD


class NoDaemonError(BrainforgeError):
    family = "daemon"
    exit_status = ExitStatus.NO_DAEMON


FAMILIES: dict[str, type[BrainforgeError]] = {
    cls.family: cls
    for cls in (
        ConfigError,
        DeviceError,
        StorageError,
        TransportError,
        SecurityError,
        SessionError,
        FleetError,
        CloudError,
        NoDaemonError,
    )
}


def _rebuild(cls: type[BrainforgeError], fields: dict[str, object]) -> BrainforgeError:
    return from_dict(fields, cls)


def from_dict(
    fields: dict[str, object], cls: type[BrainforgeError] | None = None
) -> BrainforgeError:
    """The error that `as_dict` described, in its family."""
    family, _, reason = str(fields["code"]).partition(".")
    facts = fields.get("facts")
    error = (cls or FAMILIES.get(family, BrainforgeError))(
        reason,
        str(fields["what"]),
        why=str(fields["why"]),
        remedy=str(fields["remedy"]),
        transient=bool(fields["transient"]),
    )
    error.facts = dict(facts) if isinstance(facts, dict) else {}
    return error
