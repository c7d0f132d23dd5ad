-- Events that were not published yet: written with the change that they tell of, deleted when they are sent.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order in which they happened
    event_id TEXT NOT NULL UNIQUE,
    is_urgent INTEGER NOT NULL,             -- 1: leaves before all others; -1: cannot be read, after all others
    event BLOB NOT NULL                     -- SystemEvent as JSON
);
CREATE INDEX outbox_order ON outbox (is_urgent DESC, id);
