"""Handles: what a person holds. Each method calls one flow."""
