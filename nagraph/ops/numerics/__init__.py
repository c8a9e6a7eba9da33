"""Numerics that NumPy lacks."""
