"""Fine-tuning: data, estimates, the trainer, checkpoints, model cards."""

SMALL = 20_000_000
"""Parameters. A model below this takes larger steps, and on a CPU one thread: others would wait longer than they compute."""
