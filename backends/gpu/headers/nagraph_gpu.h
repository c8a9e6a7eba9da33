// nagraph_gpu.h: what the text of kernels is written with, once for each of three compilers.
//
//   CUDA    nvcc and NVRTC, with --fmad=false: a product that is to be fused with a sum says so (ng_fma)
//   Metal   with fast math off
//   C++     for runs on a CPU (on_cpu/): NAGRAPH_ON_CPU is defined, and CUDA's own words, from threadIdx to __shfl_sync, are functions
//
// Whatever differs between them stands here and nowhere else. All functions give the same bits in all three, but for the payload of
// a nan and for floats that an integer can't hold.
#pragma once

// -- words ------------------------------------------------------------------------------------------------------------------------

#if defined(__METAL_VERSION__)
#include <metal_stdlib>
#define NG_METAL 1
#define NG_FUNCTION static inline
#define NG_GLOBAL device
#define NG_SHARED threadgroup
typedef char i8;
typedef short i16;
typedef int i32;
typedef long i64;
typedef uchar u8;
typedef ushort u16;
typedef uint u32;
typedef ulong u64;

#else
#define NG_GLOBAL
#define NG_SHARED
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define NG_FUNCTION static __device__ __forceinline__
#endif

// The shared memory of a block, as bytes.
#if defined(NAGRAPH_ON_CPU)
#define NG_SHARED_BLOCK(name, nbytes) MACHINE_SHARED(name)
#elif defined(NG_METAL)
#define NG_SHARED_BLOCK(name, nbytes) threadgroup ulong name##_words[((nbytes) + 7) / 8]; threadgroup u8* const name = (threadgroup u8*)name##_words
#else
#define NG_SHARED_BLOCK(name, nbytes) extern __shared__ __align__(16) unsigned char name[]
#endif

// Storage of 16-bit floats: their bits. What is computed of them is computed in float.
struct f16 { u16 bits; };
struct bf16 { u16 bits; };

// -- bits -------------------------------------------------------------------------------------------------------------------------

// The same bits as another type of the same size.
template <class To, class From> NG_FUNCTION To ng_bitcast(From x) {
#if defined(NG_METAL)
  return metal::as_type<To>(x);
#else
  static_assert(sizeof(To) == sizeof(From), "a bitcast keeps the size");
  To y;
  memcpy(&y, &x, sizeof(To));
  return y;
#endif
}

NG_FUNCTION f16 ng_f16_of_bits(u32 bits) { f16 x; x.bits = (u16)bits; return x; }
NG_FUNCTION bf16 ng_bf16_of_bits(u32 bits) { bf16 x; x.bits = (u16)bits; return x; }

// -- integers: those that C leaves open wrap around -------------------------------------------------------------------------------

NG_FUNCTION i32 ng_add(i32 x, i32 y) { return (i32)((u32)x + (u32)y); }
NG_FUNCTION i64 ng_add(i64 x, i64 y) { return (i64)((u64)x + (u64)y); }
NG_FUNCTION i32 ng_sub(i32 x, i32 y) { return (i32)((u32)x - (u32)y); }
NG_FUNCTION i64 ng_sub(i64 x, i64 y) { return (i64)((u64)x - (u64)y); }
NG_FUNCTION i32 ng_mul(i32 x, i32 y) { return (i32)((u32)x * (u32)y); }
NG_FUNCTION i64 ng_mul(i64 x, i64 y) { return (i64)((u64)x * (u64)y); }
NG_FUNCTION i32 ng_shl(i32 x, i32 y) { return (i32)((u32)x << y); }
NG_FUNCTION i64 ng_shl(i64 x, i64 y) { return (i64)((u64)x << y); }
NG_FUNCTION i8 ng_abs(i8 x) { return (i8)(x < 0 ? -x : x); }
NG_FUNCTION i16 ng_abs(i16 x) { return (i16)(x < 0 ? -x : x); }
NG_FUNCTION i32 ng_abs(i32 x) { return x < 0 ? ng_sub(0, x) : x; }
NG_FUNCTION i64 ng_abs(i64 x) { return x < 0 ? ng_sub((i64)0, x) : x; }

// -- floats -----------------------------------------------------------------------------------------------------------------------

#if defined(NG_METAL)
NG_FUNCTION float ng_fma(float x, float y, float z) { return metal::fma(x, y, z); }
NG_FUNCTION float ng_sqrt(float x) { return metal::precise::sqrt(x); }
NG_FUNCTION float ng_abs(float x) { return metal::fabs(x); }
NG_FUNCTION float ng_floor(float x) { return metal::floor(x); }
NG_FUNCTION float ng_ceil(float x) { return metal::ceil(x); }
NG_FUNCTION float ng_trunc(float x) { return metal::trunc(x); }
NG_FUNCTION float ng_rint(float x) { return metal::rint(x); }
NG_FUNCTION float ng_copysign(float x, float y) { return metal::copysign(x, y); }

#else
NG_FUNCTION float ng_fma(float x, float y, float z) { return __fmaf_rn(x, y, z); }
NG_FUNCTION double ng_fma(double x, double y, double z) { return __fma_rn(x, y, z); }
NG_FUNCTION float ng_sqrt(float x) { return __fsqrt_rn(x); }
NG_FUNCTION double ng_sqrt(double x) { return __dsqrt_rn(x); }
NG_FUNCTION float ng_abs(float x) { return fabsf(x); }
NG_FUNCTION double ng_abs(double x) { return fabs(x); }
NG_FUNCTION float ng_floor(float x) { return floorf(x); }
NG_FUNCTION double ng_floor(double x) { return floor(x); }
NG_FUNCTION float ng_ceil(float x) { return ceilf(x); }
NG_FUNCTION double ng_ceil(double x) { return ceil(x); }
NG_FUNCTION float ng_trunc(float x) { return truncf(x); }
NG_FUNCTION double ng_trunc(double x) { return trunc(x); }
NG_FUNCTION float ng_rint(float x) { return rintf(x); }
NG_FUNCTION double ng_rint(double x) { return rint(x); }
NG_FUNCTION float ng_copysign(float x, float y) { return copysignf(x, y); }
NG_FUNCTION double ng_copysign(double x, double y) { return copysign(x, y); }

#endif

// The larger and the smaller; nan if either is nan.
template <class T> NG_FUNCTION T ng_max(T x, T y) { return x != x ? x : x > y ? x : y; }
template <class T> NG_FUNCTION T ng_min(T x, T y) { return x != x ? x : x < y ? x : y; }

// -- 16-bit floats ----------------------------------------------------------------------------------------------------------------

NG_FUNCTION float ng_float(bf16 x) { return ng_bitcast<float>((u32)x.bits << 16); }

#if defined(NG_METAL)
NG_FUNCTION float ng_float(f16 x) { return (float)metal::as_type<half>(x.bits); }
NG_FUNCTION f16 ng_f16(float x) { f16 y; y.bits = metal::as_type<ushort>((half)x); return y; }
#elif !defined(NAGRAPH_ON_CPU)
NG_FUNCTION float ng_float(f16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }
NG_FUNCTION f16 ng_f16(float x) { f16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
#else
NG_FUNCTION float ng_float(f16 x) {
  const u32 sign = (u32)(x.bits & 0x8000) << 16, rest = x.bits & 0x7FFF;
  // A subnormal is its integer times 2^-24, exactly.
  const u32 wide = rest >= 0x7C00 ? rest << 13 | 255u << 23 : rest >= 0x0400 ? (rest << 13) + (112u << 23)
                                                                              : ng_bitcast<u32>((float)rest * 0x1p-24f);
  return ng_bitcast<float>(wide | sign);
}
// Rounded to nearest, halves to even. The addition of a power of two rounds subnormals.
NG_FUNCTION f16 ng_f16(float x) {
  const u32 bits = ng_bitcast<u32>(x), rest = bits & 0x7FFFFFFF;
  const u32 special = rest > 0x7F800000 ? (rest >> 13 & 0x3FF) | 0x7E00 : 0x7C00;
  const u32 normal = (rest + ((rest >> 13 & 1) + 0xFFF) - (112u << 23)) >> 13;
  const u32 small = ng_bitcast<u32>(ng_bitcast<float>(rest) + 0.5f) - 0x3F000000;
  return ng_f16_of_bits((bits >> 16 & 0x8000) | (rest >= 0x47800000 ? special : rest >= 0x38800000 ? normal : small));
}
#endif

#if !defined(NG_METAL) && !defined(NAGRAPH_ON_CPU)
NG_FUNCTION bf16 ng_bf16(float x) { bf16 y; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
#else
// Rounded to nearest, halves to even; nan stays nan.
NG_FUNCTION bf16 ng_bf16(float x) {
  const u32 bits = ng_bitcast<u32>(x);
  return ng_bf16_of_bits(x != x ? (bits >> 16 & 0x8000) | 0x7FC0 : (bits + ((bits >> 16 & 1) + 0x7FFF)) >> 16);
}
#endif

// -- threads together -------------------------------------------------------------------------------------------------------------
//
// All lanes of a warp come to a shuffle, all threads of a block to its barrier: kernels branch around neither.

#if defined(NG_METAL)
NG_FUNCTION void ng_block_barrier() { metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup | metal::mem_flags::mem_device); }
NG_FUNCTION void ng_warp_barrier() { metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup | metal::mem_flags::mem_device); }
// The value of the lane `lane`, 0 to 31, of the warp.
template <class T> NG_FUNCTION T ng_shuffle(T x, int lane) { return metal::simd_shuffle(x, (ushort)lane); }
// The value of the lane `by` lanes after this one; beyond the last lane, anything.
template <class T> NG_FUNCTION T ng_shuffle_down(T x, int by) { return metal::simd_shuffle_down(x, (ushort)by); }
NG_FUNCTION bool ng_shuffle(bool x, int lane) { return metal::simd_shuffle((uint)x, (ushort)lane) != 0; }
NG_FUNCTION bool ng_shuffle_down(bool x, int by) { return metal::simd_shuffle_down((uint)x, (ushort)by) != 0; }
NG_FUNCTION i64 ng_shuffle(i64 x, int lane) { return metal::as_type<i64>(metal::simd_shuffle(metal::as_type<metal::uint2>(x), (ushort)lane)); }
NG_FUNCTION u64 ng_shuffle(u64 x, int lane) { return metal::as_type<u64>(metal::simd_shuffle(metal::as_type<metal::uint2>(x), (ushort)lane)); }
NG_FUNCTION i64 ng_shuffle_down(i64 x, int by) { return metal::as_type<i64>(metal::simd_shuffle_down(metal::as_type<metal::uint2>(x), (ushort)by)); }
NG_FUNCTION u64 ng_shuffle_down(u64 x, int by) { return metal::as_type<u64>(metal::simd_shuffle_down(metal::as_type<metal::uint2>(x), (ushort)by)); }

#else
NG_FUNCTION void ng_block_barrier() { __syncthreads(); }
NG_FUNCTION void ng_warp_barrier() { __syncwarp(); }
// The value of the lane `lane`, 0 to 31, of the warp.
template <class T> NG_FUNCTION T ng_shuffle(T x, int lane) { return (T)__shfl_sync(0xFFFFFFFFu, x, lane); }
// The value of the lane `by` lanes after this one; beyond the last lane, anything.
template <class T> NG_FUNCTION T ng_shuffle_down(T x, int by) { return (T)__shfl_down_sync(0xFFFFFFFFu, x, by); }

#endif

// -- neighbouring elements --------------------------------------------------------------------------------------------------------

// N elements that lie side by side in memory.
template <class T, int N> struct ng_pack { T at[N]; };

// N elements from `from` on: by one access where the address allows it, else one by one.
template <int N, class T> NG_FUNCTION ng_pack<T, N> ng_load(const NG_GLOBAL T* from) {
  ng_pack<T, N> x;
#if !defined(NG_METAL)
  if (sizeof(x) == 16 && ((u64)from & 15) == 0) {
    const uint4 words = *(const uint4*)from;
    memcpy(&x, &words, sizeof(x));
    return x;
  }
  if (sizeof(x) == 8 && ((u64)from & 7) == 0) {
    const uint2 words = *(const uint2*)from;
    memcpy(&x, &words, sizeof(x));
    return x;
  }
  if (sizeof(x) == 4 && ((u64)from & 3) == 0) {
    const u32 word = *(const u32*)from;
    memcpy(&x, &word, sizeof(x));
    return x;
  }
#endif
  for (int i = 0; i < N; ++i) x.at[i] = from[i];
  return x;
}

#if defined(NG_METAL) && !defined(NAGRAPH_ON_CPU)
template <int N, class T> NG_FUNCTION ng_pack<T, N> ng_load(const threadgroup T* from) {
  ng_pack<T, N> x;
  for (int i = 0; i < N; ++i) x.at[i] = from[i];
  return x;
}
template <class T, int N> NG_FUNCTION void ng_store(threadgroup T* to, ng_pack<T, N> x) {
  for (int i = 0; i < N; ++i) to[i] = x.at[i];
}
#endif

// Stores N elements from `to` on, in the same way.
template <class T, int N> NG_FUNCTION void ng_store(NG_GLOBAL T* to, ng_pack<T, N> x) {
#if !defined(NG_METAL)
  if (sizeof(x) == 16 && ((u64)to & 15) == 0) {
    uint4 words;
    memcpy(&words, &x, sizeof(x));
    *(uint4*)to = words;
    return;
  }
  if (sizeof(x) == 8 && ((u64)to & 7) == 0) {
    uint2 words;
    memcpy(&words, &x, sizeof(x));
    *(uint2*)to = words;
    return;
  }
  if (sizeof(x) == 4 && ((u64)to & 3) == 0) {
    u32 word;
    memcpy(&word, &x, sizeof(x));
    *(u32*)to = word;
    return;
  }
#endif
  for (int i = 0; i < N; ++i) to[i] = x.at[i];
}

#if !defined(NG_METAL)
#include "nagraph_products.h"
#endif
