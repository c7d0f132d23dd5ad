"""`session`: bedside sessions of the running box."""
