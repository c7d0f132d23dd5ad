"""The catalogue's tables, as numbered migrations. Never edit one that was released: add the next."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('generation', '0');
    CREATE TABLE log (log_id BLOB PRIMARY KEY, node TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY,
        log_id BLOB NOT NULL REFERENCES log,
        product INTEGER NOT NULL,
        stream_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        info TEXT,                      -- StreamInfo as JSON, from the last descriptor
        UNIQUE (log_id, product, stream_id),
        UNIQUE (log_id, product, number)
    );
    CREATE TABLE pack (
        id INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL REFERENCES stream,
        path TEXT NOT NULL UNIQUE,      -- below the store's folder
        length INTEGER NOT NULL         -- bytes that count; what lies beyond is cut at start
    );
    -- A piece is the part of a stored chunk that is used: all of it, or what was new in an overlap.
    CREATE TABLE piece (
        stream INTEGER NOT NULL REFERENCES stream,
        incarnation INTEGER NOT NULL,
        first INTEGER NOT NULL,
        "end" INTEGER NOT NULL,
        pack INTEGER NOT NULL REFERENCES pack,
        "offset" INTEGER NOT NULL,
        length INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        PRIMARY KEY (stream, incarnation, first)
    ) WITHOUT ROWID;
    -- Chunks without samples (descriptors), by their place in the box's log.
    CREATE TABLE other (
        stream INTEGER NOT NULL REFERENCES stream,
        segment_id BLOB NOT NULL,
        number INTEGER NOT NULL,
        pack INTEGER NOT NULL REFERENCES pack,
        "offset" INTEGER NOT NULL,
        length INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        PRIMARY KEY (stream, segment_id, number)
    ) WITHOUT ROWID;
    """,
)
