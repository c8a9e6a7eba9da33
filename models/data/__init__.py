"""Data that the models train on, and baselines measured on the same splits."""
