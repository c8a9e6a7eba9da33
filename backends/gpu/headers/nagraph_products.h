// nagraph_products.h: what products are written with, beside nagraph_gpu.h, each once with a form for CUDA and a plain one.
//
// The plain forms do what the instructions are said to do in the manual of PTX, lane by lane, by shuffles: so the layout of fragments is that
// of mma.sync.aligned.m16n8k16 and m16n8k8. They differ in one thing: they add up exactly in the order of the terms, rounding once for
// each, where a tensor core adds a step's terms in an order and to a width of its own.
#pragma once

NG_FUNCTION int ng_least(int x, int y) { return x < y ? x : y; }

// -- shared memory ----------------------------------------------------------------------------------------------------------------

// N elements that lie side by side in shared memory, at a multiple of as many bytes, up to 16.
template <int N, class T> NG_FUNCTION ng_pack<T, N> ng_take(const T* from) {
  ng_pack<T, N> x;
#if !defined(NAGRAPH_ON_CPU)
  if (sizeof(x) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < (int)sizeof(x) / 16; ++i) {
      const uint4 words = ((const uint4*)from)[i];
      memcpy((unsigned char*)&x + 16 * i, &words, 16);
    }
    return x;
  }
  if (sizeof(x) == 8) {
    const uint2 words = *(const uint2*)from;
    memcpy(&x, &words, sizeof(x));
    return x;
  }
#endif
  for (int i = 0; i < N; ++i) x.at[i] = from[i];
  return x;
}

// -- asynchronous copies ----------------------------------------------------------------------------------------------------------

#if !defined(NAGRAPH_ON_CPU) && __CUDA_ARCH__ >= 800
#define NG_ASYNC 1
#endif

// Begins to copy N bytes, 4, 8 or 16, that lie at a multiple of N, to shared memory at a multiple of N.
template <int N> NG_FUNCTION void ng_begin_copy(void* to, const void* from) {
#if defined(NG_ASYNC)
  const u32 target = (u32)__cvta_generic_to_shared(to);
  if (N == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(from) : "memory");
  else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(target), "l"(from), "n"(N) : "memory");
#elif defined(NAGRAPH_ON_CPU)
  machine::begin_copy(to, from, N);
#else
  for (int i = 0; i < N / 4; ++i) ((u32*)to)[i] = ((const u32*)from)[i];
#endif
}

// Begins to copy `count` neighbouring elements to shared memory, at once where their address allows it, else one by one; zeros if they are
// not `there`: then nothing is read. Operands may begin anywhere: in a loop they are parts of arrays.
template <int count, class T> NG_FUNCTION void ng_copy(T* to, const T* from, bool there) {
  const int nbytes = count * (int)sizeof(T);
  if (!there) {
    for (int i = 0; i < nbytes / 4; ++i) ((u32*)to)[i] = 0;
  } else if (count == 1 || (u64)from % nbytes == 0) {
    ng_begin_copy<nbytes>(to, from);
  } else if (sizeof(T) >= 4) {
    for (int i = 0; i < count; ++i) ng_begin_copy<(sizeof(T) < 4 ? 4 : (int)sizeof(T))>(to + i, from + i);
  } else {
    for (int i = 0; i < count; ++i) to[i] = from[i];
  }
}

// What was begun up to here is one group.
NG_FUNCTION void ng_copies_begun() {
#if defined(NG_ASYNC)
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif defined(NAGRAPH_ON_CPU)
  machine::commit_copies();
#endif
}

// Waits until all groups of this thread are copied but the last `pending`; a barrier then shows them to other threads.
template <int pending> NG_FUNCTION void ng_copies_done() {
#if defined(NG_ASYNC)
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#elif defined(NAGRAPH_ON_CPU)
  machine::await_copies(pending);
#endif
}

// -- fragments --------------------------------------------------------------------------------------------------------------------
//
// With g = lane / 4 and t = lane % 4 a lane holds of A (16 rows, 16 terms) rows g and g + 8, terms 2t, 2t + 1 and 2t + 8, 2t + 9; of B (16 terms,
// 8 columns) column g and the same terms; of C rows g and g + 8, columns 2t and 2t + 1. A word has two 16-bit floats, the first one low.

#if !defined(NAGRAPH_ON_CPU)
template <int parts, bool transposed> NG_FUNCTION void ng_take_matrices(u32* words, const void* row) {
  const u32 at = (u32)__cvta_generic_to_shared(row);
  if (parts == 4 && transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "r"(at) : "memory");
  else if (parts == 4)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3]) : "r"(at) : "memory");
  else if (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "r"(at) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "r"(at) : "memory");
}
#else
// Matrices of 8 by 8 elements of 16 bits: lane i of 8p to 8p + 7 brings the address of row i % 8 of matrix p; of each matrix a lane gets row
// lane / 4, elements 2 (lane % 4) and the next one, or of its transpose.
template <int parts, bool transposed> NG_FUNCTION void ng_take_matrices(u32* words, const void* row) {
  const int lane = (int)(threadIdx.x % 32);
  for (int p = 0; p < parts; ++p) {
    u32 word = 0;
    for (int i = 0; i < 2; ++i) {
      const int from = transposed ? lane % 4 * 2 + i : lane / 4, at = transposed ? lane / 4 : lane % 4 * 2 + i;
      const u16* const found = (const u16*)ng_shuffle((u64)row, 8 * p + from);
      word |= (u32)found[at] << 16 * i;
    }
    words[p] = word;
  }
}
#endif

// The fragment of A whose first element is at `from`; rows are `pitch` apart.
template <class T> NG_FUNCTION void ng_take_a16(u32* words, const T* from, int pitch, int lane) {
  ng_take_matrices<4, false>(words, from + lane % 16 * pitch + lane / 16 * 8);
}

// The same where terms are `pitch` apart, and rows lie side by side.
template <class T> NG_FUNCTION void ng_take_a16_by_terms(u32* words, const T* from, int pitch, int lane) {
  ng_take_matrices<4, true>(words, from + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8);
}

// The fragment of B whose columns are `pitch` apart.
template <class T> NG_FUNCTION void ng_take_b16(u32* words, const T* from, int pitch, int lane) {
  ng_take_matrices<2, false>(words, from + lane % 8 * pitch + lane / 8 % 2 * 8);
}

// The same where terms are `pitch` apart.
template <class T> NG_FUNCTION void ng_take_b16_by_terms(u32* words, const T* from, int pitch, int lane) {
  ng_take_matrices<2, true>(words, from + lane % 16 * pitch);
}

// float32 rounded to the 11 bits that a tensor core multiplies, halves away from zero.
NG_FUNCTION u32 ng_tf32(float x) {
#if !defined(NAGRAPH_ON_CPU)
  u32 y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
#else
  const u32 bits = ng_bitcast<u32>(x);
  return (bits & 0x7F800000u) == 0x7F800000u ? bits : (bits + 0x1000u) & ~0x1FFFu;
#endif
}

// Of 16 rows and 8 terms a lane holds rows g and g + 8, terms t and t + 4; of 8 terms and 8 columns column g and the same terms.
NG_FUNCTION void ng_take_a8(u32* words, const float* from, int pitch, int lane) {
  for (int i = 0; i < 4; ++i) words[i] = ng_tf32(from[(lane % 4 + i / 2 * 4) * pitch + lane / 4 + i % 2 * 8]);
}

NG_FUNCTION void ng_take_b8(u32* words, const float* from, int pitch, int lane) {
  for (int i = 0; i < 2; ++i) words[i] = ng_tf32(from[(lane % 4 + i * 4) * pitch + lane / 4]);
}

// -- products of fragments --------------------------------------------------------------------------------------------------------

#if !defined(NAGRAPH_ON_CPU)
#define NG_MMA(name, kinds)                                                                                                    \
  NG_FUNCTION void name(float* c, const u32* a, const u32* b) {                                                                \
    asm volatile("mma.sync.aligned." kinds " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                  \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                          \
  }
NG_MMA(ng_mma_f16, "m16n8k16.row.col.f32.f16.f16.f32")
NG_MMA(ng_mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
NG_MMA(ng_mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef NG_MMA
#else
// The elements of a word: both halves, or one float.
struct ng_f16_words {
  static const int count = 2;
  static float at(u32 word, int i) { return ng_float(ng_f16_of_bits(word >> 16 * i & 0xFFFFu)); }
};
struct ng_bf16_words {
  static const int count = 2;
  static float at(u32 word, int i) { return ng_float(ng_bf16_of_bits(word >> 16 * i & 0xFFFFu)); }
};
struct ng_tf32_words {
  static const int count = 1;
  static float at(u32 word, int) { return ng_bitcast<float>(word); }
};

// C + A B by shuffles: the terms of a lane's row stand in the lanes 4g to 4g + 3, those of column n in the lanes 4n to 4n + 3.
template <class Words> NG_FUNCTION void ng_mma_by_shuffles(float* c, const u32* a, const u32* b) {
  const int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int half = 0; half < 2; ++half) {
    for (int from = 0; from < 4; ++from) {
      u32 rows[2], columns[2];
      for (int i = 0; i < 2; ++i) rows[i] = ng_shuffle(a[2 * half + i], 4 * g + from);
      for (int i = 0; i < 2; ++i) columns[i] = ng_shuffle(b[half], 4 * (2 * t + i) + from);
      for (int k = 0; k < Words::count; ++k)
        for (int i = 0; i < 4; ++i) c[i] = ng_fma(Words::at(rows[i / 2], k), Words::at(columns[i % 2], k), c[i]);
    }
  }
}
NG_FUNCTION void ng_mma_f16(float* c, const u32* a, const u32* b) { ng_mma_by_shuffles<ng_f16_words>(c, a, b); }
NG_FUNCTION void ng_mma_bf16(float* c, const u32* a, const u32* b) { ng_mma_by_shuffles<ng_bf16_words>(c, a, b); }
NG_FUNCTION void ng_mma_tf32(float* c, const u32* a, const u32* b) { ng_mma_by_shuffles<ng_tf32_words>(c, a, b); }
#endif
