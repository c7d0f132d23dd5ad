"""The demo: emulated devices, the daemon, a broker and the aggregator on one machine, and the account."""
