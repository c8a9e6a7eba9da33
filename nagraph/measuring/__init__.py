"""Measuring: where the time of a call goes, beside what the machine could do. Backends bring a recording and the machine's peaks.

    recording   when each chunk of a call ran, and on which thread
    work        what a launch has to do: operations, bytes, the user's lines
    roofline    the peaks of a machine, and what bounds a kernel
    profile     a table of these
    timeline    trace events
"""
