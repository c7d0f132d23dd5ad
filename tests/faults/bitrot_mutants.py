"""Products that are wrong in one place: the campaign must not be met with any of them."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from brainforge_edge.codec import registry
from brainforge_edge.recorder import chunk, entry, reader, verify
from brainforge_edge.uplink import segments

# name → (function, text in it, what stands there instead)
_Edit = tuple[Callable[..., Any], str, str]
_FOOTER = 'int.from_bytes(header_crc, "little")'
MUTANTS: dict[str, tuple[_Edit, ...]] = {
    "chunk-crc-unchecked": ((chunk.unpack, "!= expected:", "!= expected and False:"),),
    "header-not-covered": (
        (chunk.read_head, "if crc32c(fixed[:-4]) !=", "if False and crc32c(fixed[:-4]) !="),
        (chunk.footer_crc, _FOOTER, "0"),
    ),
    "header-not-bound": ((chunk.footer_crc, _FOOTER, "0"),),
    "samples-unchecked": ((registry.decode, "if crc != expected:", "if False:"),),
    "stale-lap": (
        (entry.pack_entry, 'struct.pack("<Q", offset), seed)', 'struct.pack("<Q", offset), 0)'),
        (
            entry.unpack_entry,
            'struct.pack("<Q", base + offset), seed)',
            'struct.pack("<Q", base + offset), 0)',
        ),
    ),
    "no-resync": ((reader.scan, "at = _next_magic(disk, fd, at + 1, stop)", "at = stop"),),
    "uplink-believes-headers": ((segments.look, "end <= limit and (", "end <= limit or ("),),
    "ends-not-noted": ((verify._read, "if info.file_bytes < noted:", "if False:"),),
}


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """The product with a fault in it, in this process."""
    with ExitStack() as stack:
        for edit in MUTANTS[name] if name else ():
            stack.enter_context(_edited(*edit))
        yield


@contextmanager
def _edited(function: Callable[..., Any], old: str, new: str) -> Iterator[None]:
    """The function's own code is replaced, so that whoever imported it runs the other one."""
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise ValueError(f"{function.__qualname__} does not say {old!r} once any more")
    names: dict[str, Any] = {}
    exec(compile(source.replace(old, new), "<mutant>", "exec"), function.__globals__, names)
    whole = function.__code__
    function.__code__ = names[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = whole
