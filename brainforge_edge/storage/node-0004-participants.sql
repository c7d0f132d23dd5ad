-- Consent, said again with each change: the last row of a participant counts.
CREATE TABLE consent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    participant TEXT NOT NULL,              -- pseudonym
    is_granted INTEGER NOT NULL,
    by TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    t_ns INTEGER NOT NULL,
    utc_ns INTEGER,                         -- NULL: not known then
    session_id TEXT NOT NULL                -- that ran then, else ''
);
CREATE INDEX consent_of ON consent (participant, id);
-- Who wears what now; empty after a hand-over.
CREATE TABLE seat (device TEXT PRIMARY KEY, participant TEXT NOT NULL) WITHOUT ROWID;
-- Sessions that were recorded under the wrong pseudonym: both stay.
CREATE TABLE correction (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    device TEXT NOT NULL,
    was TEXT NOT NULL,
    now TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    utc_ns INTEGER
);
CREATE INDEX corrections ON correction (session_id, device, id);
