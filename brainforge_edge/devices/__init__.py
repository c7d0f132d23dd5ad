"""Drivers: decoder + transport + handshake for each kind of device, found by `registry`."""
