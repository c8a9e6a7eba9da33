"""The LLVM backend: a graph as one native program for this CPU, every kernel written by the project's own generator.

Its rooms, in the order in which they build on one another:

    text        LLVM text: instructions, lanes, the target
    gemm        the routine behind all matrix products
    emission    a kernel as the text of a function
    native      machine code in memory and on disk
    runtime     the interpreter of programs, on all threads at once
    program     a plan as instructions, their kernels, the image that is kept on disk
    ahead_of_time  programs as object code of any machine, with a runtime that needs no Python
    calls       a program with an arena, called with arrays
    measuring   recorded calls, the machine's peaks, profiles

`executable` puts them together.
"""

from nagraph.backends.llvm.backend import BACKEND as BACKEND
