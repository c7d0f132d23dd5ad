"""Closed recordings as files of other programs: BDF, EDF, FIF, CSV, Parquet, BrainVision, XDF, SNIRF."""
