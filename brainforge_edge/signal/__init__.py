"""Signal processing: pure functions and kernels' owners, no processes."""
