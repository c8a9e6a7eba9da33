"""Backends: each makes an executable of an optimised graph."""

#: The backends there are; the first one is the default.
BACKENDS = ("llvm", "numpy")
