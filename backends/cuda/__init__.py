"""The CUDA backend: a graph as launches of kernels of ours on an NVIDIA GPU, queued as one graph, on CuPy's arrays.

    backend        what the house knows of it
    arrays         CuPy's arrays
    driver         the seam between executables and devices; cupy_driver has real ones, cuda_errors says what their errors mean
    nvrtc          GPU text becomes machine code, in parallel, and is kept
    target         architectures; resources: what functions take of one
    functions      what launches of kernels call; products: matrix products by cuBLAS
    moves          what happens to pointers and counters between launches
    script         a program as its host sees it: segments, and what is decided between them
    image          a program that runs on an architecture; images: the same on disk
    resident       a program on a device: arena, table, launches, graphs
    calls          arrays in, arrays out; signals: Ctrl-C meanwhile
    profiling      where the time of a call goes

`executable` puts them together.
"""

from nagraph.backends.cuda.backend import BACKEND as BACKEND
