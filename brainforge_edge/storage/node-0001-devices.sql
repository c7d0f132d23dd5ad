-- The devices that this box has met.
CREATE TABLE device (
    identity TEXT PRIMARY KEY,      -- core/identity.py
    kind TEXT NOT NULL,
    link TEXT NOT NULL,             -- serial, tcp, udp, ble, lsl
    name TEXT NOT NULL,             -- in the configuration, under which it answered last
    pairing TEXT NOT NULL,          -- bound, refused, known
    alias TEXT NOT NULL DEFAULT '',
    who_am_i TEXT NOT NULL DEFAULT '',
    serial_number TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT '',
    hardware TEXT NOT NULL DEFAULT '',
    firmware TEXT NOT NULL DEFAULT '',
    first_seen_ns INTEGER,          -- UTC; NULL while the time was not known
    last_seen_ns INTEGER,
    times_connected INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX device_bound ON device (name) WHERE pairing = 'bound';
CREATE UNIQUE INDEX device_alias ON device (alias) WHERE alias != '';
