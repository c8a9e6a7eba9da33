"""The ops: each one class with all its rules, and the functions that emit them."""

