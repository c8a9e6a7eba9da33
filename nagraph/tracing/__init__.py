"""Tracing: a Python function run on values without numbers, which record what becomes of them as a graph."""
