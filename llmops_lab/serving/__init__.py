"""An OpenAI-compatible server for a released model or bundle: cache, keys, metrics."""
