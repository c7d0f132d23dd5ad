"""The agent worker: recordings as people see them, and later sessions and the fleet."""
