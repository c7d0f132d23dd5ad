"""Read the demo's JSON from stdin and say whether its account is whole. Runs in: `tests/chroot/run`."""

import json
import sys


def main() -> int:
    account = json.load(sys.stdin)
    for stream in account["streams"]:
        print(json.dumps(stream))
    good = [
        stream["emitted"] == stream["acquired"] + stream["gaps"]
        and stream["acquired"] == stream["recorded"] == stream["stored"] > 0
        and stream["lost"] == stream["duplicates"] == 0
        and stream["digest_equal"]
        for stream in account["streams"]
    ]
    return 0 if len(good) >= 2 and all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
