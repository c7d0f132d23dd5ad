"""A BIDS dataset from recordings: each is a session of every participant in it. Runs in: `brainforge-edge export`.

Samples are written by the formats beside this package; here is what BIDS wants around them.
"""
