"""Model providers, one a file; ``_ask`` stands between a question and its outcome."""
