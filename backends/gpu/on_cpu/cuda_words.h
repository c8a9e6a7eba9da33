// The words of CUDA C++ as the machine of fibers (machine.h) has them: with this before it, the text of a kernel is plain C++.
//
// Arithmetic has the roundings of a device that is compiled with --fmad=false, without flush to zero, with IEEE division and roots:
// the compiler is given -ffp-contract=off. What overflows in C++ and not on the device is the header's of the kernels to write right.
#pragma once
#include "machine.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

#define threadIdx (machine::current->index)
#define blockIdx (machine::block)
#define gridDim (machine::blocks)
#define blockDim (machine::threads)
#define warpSize 32

// -- threads that meet ----------------------------------------------------------------------------------------------

static inline void __syncthreads() { machine::barrier(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { machine::synchronise_warp(mask); }

static inline unsigned machine_lane() { return machine::current->number & 31; }

// Of a shuffle within parts of `width` lanes: the lane at a place of the part of mine, or mine if the place is outside.
static inline unsigned machine_within(int place, int width) {
  unsigned lane = machine_lane();
  return place >= 0 && place < width ? (lane & ~unsigned(width - 1)) + unsigned(place) : lane;
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return machine::shuffle(mask, value, machine_within(source & (width - 1), width));
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  return machine::shuffle(mask, value, machine_within(int(machine_lane() & unsigned(width - 1)) ^ bits, width));
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  return machine::shuffle(mask, value, machine_within(int((machine_lane() & unsigned(width - 1)) + distance), width));
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  return machine::shuffle(mask, value, machine_within(int(machine_lane() & unsigned(width - 1)) - int(distance), width));
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) { return machine::vote(mask, predicate != 0); }
static inline int __any_sync(unsigned mask, int predicate) { return machine::vote(mask, predicate != 0) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return machine::vote(mask, predicate == 0) == 0; }

// -- vectors in memory ----------------------------------------------------------------------------------------------

#define MACHINE_VECTORS(scalar, name)                                                                                 \
  struct alignas(2 * sizeof(scalar)) name##2 { scalar x, y; };                                                        \
  struct alignas(sizeof(scalar) == 8 ? 16 : 4 * sizeof(scalar)) name##4 { scalar x, y, z, w; };                       \
  static inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }                                         \
  static inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
MACHINE_VECTORS(float, float)
MACHINE_VECTORS(double, double)
MACHINE_VECTORS(int, int)
MACHINE_VECTORS(unsigned, uint)
MACHINE_VECTORS(short, short)
MACHINE_VECTORS(unsigned short, ushort)
MACHINE_VECTORS(signed char, char)
MACHINE_VECTORS(unsigned char, uchar)
MACHINE_VECTORS(long long, longlong)
MACHINE_VECTORS(unsigned long long, ulonglong)
#undef MACHINE_VECTORS
template <class T>
static inline T __ldg(const T* p) {
  return *p;
}

// -- arithmetic -----------------------------------------------------------------------------------------------------

static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dsub_rn(double x, double y) { return x - y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline double __ddiv_rn(double x, double y) { return x / y; }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

static inline unsigned __float_as_uint(float x) { return machine::bits_as<unsigned>(x); }
static inline int __float_as_int(float x) { return machine::bits_as<int>(x); }
static inline float __uint_as_float(unsigned x) { return machine::bits_as<float>(x); }
static inline float __int_as_float(int x) { return machine::bits_as<float>(x); }
static inline long long __double_as_longlong(double x) { return machine::bits_as<long long>(x); }
static inline double __longlong_as_double(long long x) { return machine::bits_as<double>(x); }

static inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned((uint64_t(x) * y) >> 32); }
static inline int __mulhi(int x, int y) { return int((int64_t(x) * y) >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)(((unsigned __int128)x * y) >> 64);
}
static inline long long __mul64hi(long long x, long long y) { return (long long)(((__int128)x * y) >> 64); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

template <class T>
static inline T min(T x, T y) {
  return y < x ? y : x;
}
template <class T>
static inline T max(T x, T y) {
  return x < y ? y : x;
}
