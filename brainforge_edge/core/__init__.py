"""The vocabulary every other floor speaks (floor 2)."""
