"""Compiling: `jit` and `compile`, what a call of a compiled function looks at, and what happens when a pass or a backend fails."""
