"""The only home of MLflow: where it is, its runs, traces, datasets and prompt registry."""
