"""Measuring: calls that record when each chunk ran, and the peaks of this machine, of which `nagraph.measuring` makes profiles."""
