"""Models, written with the public API alone."""
