"""Scorers, one a file: each judges one reply. ``_run`` finds, checks and applies them; the folder is the registry."""
