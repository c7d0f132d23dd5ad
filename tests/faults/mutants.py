"""A box that loses samples, to show that the demo's own account says so.

    python -m tests.faults mutants --seconds 120

A mutant is patched into one kind of process alone, here acquire, through a `sitecustomize` on its
path; the product knows nothing of it. Each must make the demo fail, and the unchanged box must pass.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MUTANT = """
import sys
if {process!r} in sys.orig_argv:
    {body}
"""
ACQUIRE = "brainforge_edge.acquisition.worker"
DROPS_FRAMES = """
    from brainforge_edge.devices.bfp_decoder import BfpDecoder
    count = 0
    data = BfpDecoder._data
    def forgetful(self, *arguments):
        global count
        count += 1
        return None if count % {every} == {every} // 2 else data(self, *arguments)
    BfpDecoder._data = forgetful
"""
DROPS_BLOCKS = """
    from brainforge_edge.devices.bfp_decoder import BfpDecoder
    count = 0
    found = BfpDecoder.found
    def forgetful(self, *arguments):
        global count
        blocks = found(self, *arguments)
        count += 1
        return blocks[1:] if count % {every} == {every} // 2 else blocks
    BfpDecoder.found = forgetful
"""
CHANGES_A_BIT = """
    from brainforge_edge.devices.bfp_decoder import BfpDecoder
    count = 0
    found = BfpDecoder.found
    def wrong(self, *arguments):
        global count
        blocks = found(self, *arguments)
        for block in blocks:
            count += block.stream_id.endswith("-mag")
            if count == 200:
                block.data[0, 5] ^= 1
                count += 1
        return blocks
    BfpDecoder.found = wrong
"""
READS_SLOWLY = """
    import time
    from brainforge_edge.devices.link import FdTransport
    read, fill = FdTransport.read, FdTransport.fill
    def slow(self, timeout_s):
        data = read(self, timeout_s)
        time.sleep(len(data) / {bytes_a_second})
        return data
    def slowly(self, sink, timeout_s):
        n = fill(self, sink, timeout_s)
        time.sleep(n / {bytes_a_second})
        return n
    FdTransport.read, FdTransport.fill = slow, slowly
"""


def environment(tmp_path: Path, mutant: str, *, process: str = ACQUIRE) -> dict[str, str]:
    """In which `mutant` is patched into every process with the argument `process`; "" changes nothing."""
    if not mutant:
        return dict(os.environ)
    folder = tmp_path / "mutant"
    folder.mkdir(exist_ok=True)
    text = MUTANT.format(process=process, body=mutant.strip())
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    path = (str(folder), *filter(None, [os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def run_demo(tmp_path: Path, *options: str, mutant: str = "") -> tuple[int, dict[str, Any]]:
    """Exit status and JSON reply of a headless demo."""
    command = [sys.executable, "-m", "brainforge_edge.cli.main", "demo", "--headless", "--json"]
    result = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=1000,
        env=environment(tmp_path, mutant),
        check=False,
    )
    assert result.stdout, result.stderr
    reply: dict[str, Any] = json.loads(result.stdout)
    return result.returncode, reply


# 8 rows of 306 x 3 bytes in a frame of 7,443 bytes, 125 frames a second.
WIRE_BYTES_S = 7_443 * 125
CASES = {
    "unchanged": ("", 0),
    "a decoder that drops one frame in 10,000": (DROPS_FRAMES.format(every=10_000), 1),
    "a reader that is 2 % too slow": (
        READS_SLOWLY.format(bytes_a_second=round(0.98 * WIRE_BYTES_S)),
        1,
    ),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults mutants")
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args(arguments)
    is_good = True
    for name, (mutant, expected) in CASES.items():
        with tempfile.TemporaryDirectory(prefix="bf-mutant-") as folder:
            status, reply = run_demo(Path(folder), "--seconds", str(options.seconds), mutant=mutant)
        is_good &= status == expected
        print(f"{name}: exit {status} (wanted {expected}). {reply.get('verdict')}", flush=True)
    return 0 if is_good else 1
