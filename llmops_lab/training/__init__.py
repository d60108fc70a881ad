"""Fine-tuning: data, estimates, the trainer, checkpoints, model cards."""
