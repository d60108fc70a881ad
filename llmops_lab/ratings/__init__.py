"""What people say of replies: rubrics, items, who sees what in which order, preferences, and what was settled. No screen, no model."""
