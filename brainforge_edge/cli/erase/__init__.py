"""`erase`, at a box and at the aggregator."""
