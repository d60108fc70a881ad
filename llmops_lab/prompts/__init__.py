"""Prompts: templates, few-shot examples, reasoning patterns, prompt files, and the library of versions."""
