"""Programs: a plan as a list of instructions over one table of pointers, the same for every backend that computes by kernels.

    instructions    launches in phases, loops, branches, moving pointers
    lowered         a program: instructions, the table, constants
    lowering        from a plan by kernels to a program
    explanation     a program with the graph and the plan that it was made from
    keys            what a program follows from, for caches
"""
