"""The text of kernels with products.

    unit         what a block of threads has in hand: rows, shared memory, tiles
    body         the instructions of a stage at a point
    stage_loops  maps, stores, folds, sums over rows
    fill         how factors come to shared memory
    multiply     what is done with them there
    nest         a product: tiles, chains, steps
    demand       what a stage reads, computed when it is asked for
    kernel       a kernel, whole
"""
