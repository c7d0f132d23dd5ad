-- What goes on at this box: one row.
CREATE TABLE bedside (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT NOT NULL,                  -- of the clock of all times in it
    seen_ns INTEGER NOT NULL,               -- box clock: it was known to run then
    seen_utc_ns INTEGER,
    kept BLOB NOT NULL                      -- JSON
);
CREATE TABLE session (
    session_id TEXT PRIMARY KEY,
    card BLOB NOT NULL,                     -- Session as JSON, as it was started
    outcome TEXT,                           -- NULL while it runs
    summary BLOB                            -- JSON
) WITHOUT ROWID;
CREATE TABLE session_step (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES session,
    boot_id TEXT NOT NULL,
    t_ns INTEGER NOT NULL,                  -- box clock
    utc_ns INTEGER,
    cause TEXT NOT NULL,                    -- of the transition; 'phase' where the protocol went on
    state TEXT NOT NULL,                    -- after it
    phase TEXT NOT NULL,                    -- that began, else ''
    elapsed_ns INTEGER NOT NULL             -- of the protocol
);
CREATE INDEX session_steps ON session_step (session_id, id);
