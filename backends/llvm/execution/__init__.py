"""Execution: executables, which are called with arrays.

Read `executable`, then `arguments` (arrays are checked and their addresses taken by native code) and `sanitizer` (executables
that look for wrong reads and writes).
"""
