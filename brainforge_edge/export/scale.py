"""Whether raw numbers have a value. Pure. Runs in: `brainforge-edge export`.

A stream of another program may say anything of its scales. Formats of physical values need them.
"""

import math

from brainforge_edge.core.stream import StreamInfo


def without_value(info: StreamInfo) -> str:
    """Why numbers of a channel stand for nothing, "" where all do."""
    for channel in info.channels:
        if not channel.scale or not math.isfinite(channel.scale):
            return (
                f"channel {channel.name} has a scale of {channel.scale}: its numbers have no value"
            )
        if not math.isfinite(channel.offset):
            return f"channel {channel.name} has an offset of {channel.offset}: its numbers have no value"
    return ""
