"""The pipeline worker: live values of what is recorded."""
