"""MQTT topics `bf/v1/{node}/…` (design, section 7)."""

PREFIX = "bf/v1"
DESIRED = "desired"
REPORTED = "reported"
JOB = "job"
JOB_STATUS = "job/status"  # kind of `job/{id}/status`
LOG = "-"  # in place of a stream: the whole log. No stream can have this name


def chunk(node: str, stream: str) -> str:
    return f"{PREFIX}/{node}/chunk/{stream}"


def ack(node: str, stream: str) -> str:
    return f"{PREFIX}/{node}/ack/{stream}"


def live(node: str, stream: str) -> str:
    return f"{PREFIX}/{node}/live/{stream}"


def hello(node: str) -> str:
    return f"{PREFIX}/{node}/hello"


def keys(node: str) -> str:
    return f"{PREFIX}/{node}/keys"


def claim(node: str) -> str:
    return f"{PREFIX}/{node}/claim"


def event(node: str, kind: str) -> str:
    return f"{PREFIX}/{node}/ev/{kind}"


def desired(node: str) -> str:
    return f"{PREFIX}/{node}/{DESIRED}"


def reported(node: str) -> str:
    return f"{PREFIX}/{node}/{REPORTED}"


def job(node: str, job_id: str) -> str:
    return f"{PREFIX}/{node}/{JOB}/{job_id}"


def job_status(node: str, job_id: str) -> str:
    return f"{PREFIX}/{node}/{JOB}/{job_id}/status"


def parse(topic: str) -> tuple[str, str, str] | None:
    """(node, kind, stream, id or '') of one of our topics, None for a foreign one."""
    parts = topic.split("/")
    if len(parts) == 6 and (parts[3], parts[5]) == (JOB, "status"):
        parts[3:] = [JOB_STATUS, parts[4]]
    if len(parts) not in {4, 5} or "/".join(parts[:2]) != PREFIX or not all(parts):
        return None
    return parts[2], parts[3], parts[4] if len(parts) == 5 else ""
