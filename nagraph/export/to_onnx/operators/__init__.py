"""The translations, by family."""
