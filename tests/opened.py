"""The chunks of a box's streams, opened with the key that the box has for itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

from brainforge_edge.core.stream import Codec
from brainforge_edge.export.recording import StreamRows, read_parts
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.sealing import KEYS_FOLDER
from brainforge_edge.security.keystore import box_store
from brainforge_edge.storage.files import SystemDisk


def opener(recording: Path) -> Callable[[Chunk], Chunk]:
    store = box_store(recording.parent.parent / KEYS_FOLDER)
    return Keyring(store, in_folders([recording], SystemDisk())).opened


def opened_chunks(recording: Path, stream: str) -> Iterator[Chunk]:
    """Of samples, in all segments of a stream."""
    opened = opener(recording)
    for path in sorted((recording / stream).glob("*.seg")):
        for whole in iter_chunks(path):
            if whole.head.codec < Codec.DESCRIPTOR:
                yield opened(whole.chunk())


def parts_of(recording: Path, stream: str) -> list[StreamRows]:
    return read_parts(recording, stream, SystemDisk(), opened=opener(recording))
