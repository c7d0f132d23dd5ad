"""MQTT topics `bf/v1/{node}/…` (design, section 7)."""

PREFIX = "bf/v1"
LOG = "-"  # in place of a stream: the whole log. No stream can have this name


def chunk(node: str, stream: str) -> str:
    return f"{PREFIX}/{node}/chunk/{stream}"


def ack(node: str, stream: str) -> str:
    return f"{PREFIX}/{node}/ack/{stream}"


def live(node: str, stream: str) -> str:
    return f"{PREFIX}/{node}/live/{stream}"


def hello(node: str) -> str:
    return f"{PREFIX}/{node}/hello"


def event(node: str, kind: str) -> str:
    return f"{PREFIX}/{node}/ev/{kind}"


def parse(topic: str) -> tuple[str, str, str] | None:
    """(node, kind, stream or '') of one of our topics, None for a foreign one."""
    parts = topic.split("/")
    if len(parts) not in {4, 5} or "/".join(parts[:2]) != PREFIX or not all(parts):
        return None
    return parts[2], parts[3], parts[4] if len(parts) == 5 else ""
