"""The ledger: every call, reply, score and undelivered log entry, append-only and crash-safe."""
