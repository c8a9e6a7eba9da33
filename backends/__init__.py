"""Backends: each makes an executable of an optimised graph."""
