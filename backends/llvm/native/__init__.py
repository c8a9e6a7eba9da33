"""Native code in memory and on disk.

`machine_code` compiles LLVM text and loads object code, `files` names the files that keep it between processes, `winners` are
schedules that a tuner found, `addresses` tells where an array's elements lie.
"""
