"""C99: a graph as one readable file of C and its header.

    words        the words of C99; support.c has what the language lacks, support.py takes of it what a file calls
    expressions  expressions inside of others
    context      names, and what the stages of a kernel share
    values       the instructions of a stage as expressions and variables
    stage        a stage as loops
    kernel       a kernel as a function
    sorting      a sort as a function
    pointers     what points where
    flow         jumps become loops and branches
    arrays       weights and constants as numbers
    remarks      comments: the user's lines, the map of the arena
    file         all of it
    exporting    ng.export.c
"""
