"""The supervisor of an edge box and what it needs to start, watch and stop its workers."""
