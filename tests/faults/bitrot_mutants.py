"""Products that are wrong in one place: the campaign must not be met with any of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from brainforge_edge.codec import registry
from brainforge_edge.recorder import chunk, entry, reader, verify
from brainforge_edge.uplink import segments
from tests.faults.edited import Edit, edited_all

_FOOTER = 'int.from_bytes(header_crc, "little")'
MUTANTS: dict[str, tuple[Edit, ...]] = {
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
    "no-resync": (
        (reader.scan, "at = _next_magic(disk, fd, max(at + 1, nonzero), stop)", "at = stop"),
    ),
    "uplink-believes-headers": ((segments.look, "end <= limit and (", "end <= limit or ("),),
    "ends-not-noted": ((verify._read, "if info.file_bytes < noted:", "if False:"),),
}


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """The product with a fault in it, in this process."""
    with edited_all(MUTANTS[name] if name else ()):
        yield
