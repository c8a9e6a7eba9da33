"""The MPS backend: graphs as functions of MLX, on Apple's GPUs; on Linux MLX computes on the CPU, which is for tests."""

from nagraph.backends.mps.backend import BACKEND as BACKEND
