"""LLVM text: functions written instruction by instruction, for the vectors of this CPU.

Read `builder` (a function and its instructions), `target` (the CPU), `lanes` (scalars of the op rules as vectors of lanes),
then `vectors` and `register_transpose`, which write what kernels and matrix products have in common.
"""
