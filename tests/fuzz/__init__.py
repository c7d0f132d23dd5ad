"""Whatever comes from outside, mutated without end: one target for each parser (docs/fuzzing.md)."""
