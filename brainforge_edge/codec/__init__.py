"""Bodies of sample chunks: plain packed rows, or lossless. Runs in: archive thread, uplink readers, cloud, export."""
