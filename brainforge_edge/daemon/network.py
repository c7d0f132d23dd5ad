"""What the workers' liblsl may see and be seen by. Runs in: supervisor, before its workers."""

import os
from pathlib import Path

from brainforge_edge.core.config import LslConfig
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.lsl import network_settings

FILE = "lsl_api.cfg"


def tell_liblsl(config: LslConfig, run: Path) -> None:
    """Write liblsl's configuration file and name it to every worker.

    An administrator who has set LSLAPICFG for the service has the last word. StorageError.
    """
    if "LSLAPICFG" in os.environ:
        return
    path = run / FILE
    text = network_settings(scope=config.scope, session=config.session, peers=config.peers)
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise StorageError(
            "folder",
            f"cannot write {path}",
            why=str(error.strerror or error).lower(),
            remedy="Make the run directory writable for the daemon's user",
        ) from error
    os.environ["LSLAPICFG"] = str(path)
