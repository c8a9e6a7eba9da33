"""Native code in memory and on disk.

`machine_code` compiles LLVM text and loads object code, `cache` keeps files between processes, `addresses` tells where
an array's elements lie.
"""
