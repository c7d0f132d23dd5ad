"""Closed recordings as files of other programs: BDF, FIF, CSV."""
