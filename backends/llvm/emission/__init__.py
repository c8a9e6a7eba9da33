"""Emission: a kernel becomes the text of one LLVM function.

Read `emit` first, which writes the units that a kernel's schedule (`nagraph.schedule`) says. `kernel_function` is what all kernel
functions have in common, `context` what the stages of a kernel share. `stage` writes the loops of a stage in the `loop_order`,
`values` what is computed in them, `folds` how values of many points become one, `stores` what is written. `contraction` gives
matrix products to the routine of `gemm`, and `prefetch` what that asks for meanwhile; `grid_rows` takes a block of rows for a
unit, `row_blocks` goes through the rows of a grid point block by block, `tiled_transpose` through two axes tile by tile;
`sorting` is the one kernel that has no kernel form.
"""
