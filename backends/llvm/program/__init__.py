"""Programs: a plan becomes instructions over a table of pointers, then words that the runtime interprets.

Read `instructions`, then `lowered` (a program in the making) and `lowering` (how a plan becomes one); `functions` (its kernels,
compiled once and kept on disk) with `loading` (their machine code in memory); `encoding` (instructions as words) and `images` (what
calls need of a program, kept on disk).
"""
