"""Human ratings: queues, who rates what in which order, and what their values mean."""
