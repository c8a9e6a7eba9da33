"""The NumPy backend: every op by its reference. It is the oracle for every other backend."""

from nagraph.backends.numpy.backend import BACKEND as BACKEND
from nagraph.backends.numpy.executable import Executable as Executable
from nagraph.backends.numpy.executable import compile as compile
