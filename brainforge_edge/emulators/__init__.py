"""Fake devices on real transports, paced by the wall clock, with a ledger of what they emitted."""
