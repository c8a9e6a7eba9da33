"""Runs on this CPU: the text of GPU kernels, compiled by the system's C++ compiler, on a machine of fibers that misses no fault.

    machine.h       what kernels see of the machine: threads, barriers, operations of warps, asynchronous copies
    cuda_words.h    the words of CUDA C++ upon it
    metal_stdlib    those of Metal
    machine.cpp     what the machine does, with fibers.h, its stacks, and watch.h, its look at every access to memory
    compiler        libraries of text by the system's compiler
    memory          arrays between red zones, as a device's memory
    module          many kernels compiled together, and their launches
    kernels         modules that are made when a kernel is first launched
"""
