"""The acquire worker: one process per device, which reads it, records it and archives it."""
