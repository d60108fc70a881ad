"""Servers elsewhere that speak HTTP: which key each of them may see, and what its refusals mean."""
