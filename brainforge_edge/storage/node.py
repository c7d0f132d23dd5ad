"""node.sqlite: devices, sessions, consent and the outbox of a box. Runs in: agent process, which alone writes it; tools read.

Its tables are the numbered `node-NNNN-*.sql` beside this file. Never edit one that was released: add the next.
"""

from pathlib import Path

from brainforge_edge.storage.sqlite import Database

NODE_FILE = "node.sqlite"  # below the node's root


def migrations() -> tuple[str, ...]:
    """Scripts in their order."""
    paths = sorted(Path(__file__).parent.glob("node-*.sql"))
    return tuple(path.read_text(encoding="utf-8") for path in paths)


def open_node(root: Path) -> Database:
    """The database below a node's root, made or brought up to this program's version."""
    root.mkdir(parents=True, exist_ok=True)
    return Database(root / NODE_FILE, migrations=migrations())
