"""Waiting for what another thread or process does."""

import time


def until(happened, seconds=60, why="it did not happen", every=0.05):
    """Wait for something to become true; returns it. Fails with ``why`` when it takes longer."""
    ends = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < ends, why
        time.sleep(every)
    return found
