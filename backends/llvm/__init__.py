"""The LLVM backend: a graph as one native program for this CPU, every kernel written by the project's own generator."""

from nagraph.backends.llvm.executable import Executable as Executable
from nagraph.backends.llvm.executable import compile as compile
from nagraph.backends.llvm.executable import kept as kept
