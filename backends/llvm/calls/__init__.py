"""Calls: from NumPy arrays to a native program and back.

Read `native_calls` first. `arena` is the memory that one call works in, `arguments` the native code that checks arrays and takes
their addresses, `sanitizer` the calls that look for wrong reads and writes.
"""
