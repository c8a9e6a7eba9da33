"""Measuring: where the time of a call goes, and what the machine could do.

`recording` notes when each chunk of a call ran, `work` tells what a launch has to do, `machine` measures peaks; `profile` makes a
table of these and `timeline` trace events.
"""
