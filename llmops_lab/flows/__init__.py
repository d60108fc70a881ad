"""User stories, one a file: the only place that composes steps."""
