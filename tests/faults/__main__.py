"""Fault campaigns by name: `python -m tests.faults NAME …`."""

import sys
from importlib import import_module

CAMPAIGNS = (
    "bitrot", "clock", "devices", "diskfull", "fds", "flap", "ioerr", "kill9", "mutants", "outage", "peers",
    "powercut", "recovery", "sim",
)  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CAMPAIGNS:
        sys.exit(f"usage: python -m tests.faults {{{','.join(CAMPAIGNS)}}} …")
    sys.exit(import_module(f"tests.faults.{sys.argv[1]}").main(sys.argv[2:]))
