"""Embedders, one a file: ``connect(target, *, settings)`` gives a function from n texts to an (n, d) float32 array of unit rows."""
