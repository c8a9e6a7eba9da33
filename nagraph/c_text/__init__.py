"""C text: what kernels as C, for GPUs or as a file of C99, are written with.

    words       how a dialect of C calls types, constants and functions
    text        lines of C with their indentation
    scalars     the scalar rules of ops as C
    functions   what takes several steps, such as exp, as functions
    places      indices, and what is asked of them
"""
