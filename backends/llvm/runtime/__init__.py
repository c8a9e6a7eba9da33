"""The runtime: programs run by all threads together, synchronised on finished chunks."""

from nagraph.backends.llvm.runtime.native_program import NativeProgram as NativeProgram
