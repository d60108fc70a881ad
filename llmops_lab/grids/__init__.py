"""Grids: rows are read, cells planned, calls run on a background loop, results read back as tables."""
