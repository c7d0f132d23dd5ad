"""Bedside sessions: what is allowed when, kept over restarts. No processes, no network."""
