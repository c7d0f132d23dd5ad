"""Keys and seals (floor 3): nothing here reads a recording or speaks to a network."""
