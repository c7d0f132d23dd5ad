"""What a process costs, read from /proc by another one."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def cpu_s(pid: int) -> float:
    """User and system time of all its threads, those that ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def threads_cpu_s(pid: int) -> dict[str, float]:
    """Time on a core by thread name, as the kernel knows it; threads of one name are summed."""
    spent: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            ran_ns = int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        spent[name] = spent.get(name, 0.0) + ran_ns / 1e9
    return spent


def threads_switches(pid: int) -> dict[str, int]:
    """How often each thread gave its core up by itself, by name: it waited for time, bytes or a lock."""
    given: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            status = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        count = status.partition("\nvoluntary_ctxt_switches:")[2].split(None, 1)[0]
        given[name] = given.get(name, 0) + int(count)
    return given


def private_mib(pid: int, *, without: str = ".ring") -> float:
    """Private memory; mappings of files that end in `without` are left out by name.

    A page of a ring that only one process has touched counts as that one's private memory, so the
    usual sum would fall whenever a reader attaches.
    """
    return private_mib_of(Path(f"/proc/{pid}/smaps").read_text(), without=without)


def private_mib_of(smaps: str, *, without: str) -> float:
    """The same from the text of a `smaps` file."""
    total_kib = 0
    is_counted = True
    for line in smaps.splitlines():
        word, _, rest = line.partition(" ")
        if not word.endswith(":"):  # the head of a mapping
            is_counted = not rest.removesuffix(" (deleted)").endswith(without)
        elif is_counted and word in {"Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"}:
            total_kib += int(rest.split()[0])
    return total_kib * 1024 / MIB


def written_bytes(pid: int) -> int:
    """Bytes it caused to be sent to the storage layer."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/io has no write_bytes")
