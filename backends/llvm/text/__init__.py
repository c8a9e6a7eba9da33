"""LLVM text: functions written instruction by instruction, for the vectors of this CPU.

Read `target` (the CPU), `builder` (a function and its instructions), `lanes` (scalars of the op rules as vectors of lanes),
then `vectors` and `register_transpose`, which write what kernels and matrix products have in common.
"""
