"""Measuring: where the time of a call goes, and what the machine could do.

`recording` notes when each chunk of a call ran, `machine` measures peaks, `profile` makes a table of both, `timeline` trace events.
"""
