"""What a view in a browser may ask of a handle, whichever way it asks: one module a view."""
