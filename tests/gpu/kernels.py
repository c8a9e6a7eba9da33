"""CUDA kernels written by hand, right and wrong ones: what the machine of fibers is tried with."""

from __future__ import annotations

from typing import NamedTuple


class Written(NamedTuple):
    """A kernel's name and its text."""

    name: str
    text: str


def written(name: str, parameters: str, body: str) -> Written:
    """A kernel of a table and slots, whose dynamic shared memory is `shared`."""
    return Written(name, f'extern "C" __global__ void {name}(void* const* table, {parameters}) {{\n  MACHINE_SHARED(shared);\n{body}\n}}')


#: y[row] = the sum of row of x: by shuffles in each warp, then through shared memory.
ROW_SUMS = """
  const float* x = (const float*)table[s0];
  float* y = (float*)table[s1];
  float* sums = (float*)shared;
  unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[(size_t)blockIdx.x * n + i];
  for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (lane == 0) sums[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = lane < warps ? sums[lane] : 0.0f;
    for (int o = 16; o; o >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, o);
    if (lane == 0) y[blockIdx.x] = sum;
  }
"""

#: c = a b in tiles of 16 by 16, for square matrices of size n, with two buffers of shared memory.
PRODUCT = """
  const float* a = (const float*)table[s0];
  const float* b = (const float*)table[s1];
  float* c = (float*)table[s2];
  float(*of_a)[16][16] = (float(*)[16][16])shared;
  float(*of_b)[16][16] = of_a + 2;
  int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 16 + y, column = blockIdx.x * 16 + x, steps = (n + 15) / 16;
  float sum = 0.0f;
  for (int k = -1; k < steps; k++) {
    if (k + 1 < steps) {
      int at = (k + 1) * 16, next = (k + 1) & 1;
      of_a[next][y][x] = row < n && at + x < n ? a[row * n + at + x] : 0.0f;
      of_b[next][y][x] = column < n && at + y < n ? b[(at + y) * n + column] : 0.0f;
    }
    if (k >= 0) {
      for (int i = 0; i < 16; i++) sum = fmaf(of_a[k & 1][y][i], of_b[k & 1][i][x], sum);
    }
    __syncthreads();
  }
  if (row < n && column < n) c[row * n + column] = sum;
"""

#: y = x by asynchronous copies of 16 bytes into two buffers of shared memory.
COPIED = """
  const float* x = (const float*)table[s0];
  float* y = (float*)table[s1];
  float4* buffer = (float4*)shared;
  int steps = n / (4 * blockDim.x), t = threadIdx.x;
  machine::begin_copy(&buffer[t], &((const float4*)x)[t], 16);
  machine::commit_copies();
  for (int k = 0; k < steps; k++) {
    int here = (k & 1) * blockDim.x, there = blockDim.x - here;
    if (k + 1 < steps) machine::begin_copy(&buffer[there + t], &((const float4*)x)[(k + 1) * blockDim.x + t], 16);
    machine::commit_copies();
    machine::await_copies(1);
    __syncthreads();
    ((float4*)y)[k * blockDim.x + t] = buffer[here + (t ^ 1)];
    __syncthreads();
  }
"""

#: Reverses 64 numbers in each block, with one barrier.
REVERSED = """
  const int* x = (const int*)table[s0] + 64 * blockIdx.x;
  int* y = (int*)table[s1] + 64 * blockIdx.x;
  int* kept = (int*)shared;
  kept[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = kept[63 - threadIdx.x];
"""
