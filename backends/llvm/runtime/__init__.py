"""The runtime: programs run by all threads together."""

from nagraph.backends.llvm.runtime.native_program import NativeProgram as NativeProgram
