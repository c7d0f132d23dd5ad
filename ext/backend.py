"""Build backend: setuptools, with a digest of `ext/` compiled into every kernel.

A binary that no longer matches its sources is refused at import (`brainforge_edge.kernels`).
"""

import hashlib
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *

_EXT = Path(__file__).parent
SUFFIXES = (".pyx", ".pxd", ".h")


def source_digest(folder: Path = _EXT) -> str:
    """SHA-256 over names and bytes of the kernel sources, generated files left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and path.name != "digest.h":
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _write_digest() -> None:
    text = f'#define BF_EXT_DIGEST "{source_digest()}"\n'
    target = _EXT / "digest.h"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _write_digest()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _write_digest()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    _write_digest()
    return build_meta.build_sdist(sdist_directory, config_settings)
