"""Who is on the air: names and addresses of the emulated devices. Runs in: the guest; imports nothing."""

GANGLION = "ganglion"


def address_of(name: str) -> str:
    return "F0:0D:00:00:9A:01" if name == GANGLION else f"F0:0D:00:00:BF:{int(name[-1]):02X}"


def name_of(name: str) -> str:
    """The last two Muses have one name."""
    return "Ganglion-bf01" if name == GANGLION else f"Muse-BF0{min(int(name[-1]), 4)}"
