/* What exported files call: a file takes those functions that it needs, in this order. Each begins with its comment, and ends with a
   line of its own that closes it. */

/* The float that has these bits. */
static float f32_of_bits(uint32_t bits) {
  union { uint32_t bits; float value; } both;
  both.bits = bits;
  return both.value;
}

/* The bits of a float. */
static uint32_t bits_of_f32(float value) {
  union { uint32_t bits; float value; } both;
  both.value = value;
  return both.bits;
}

/* The double that has these bits. */
static double f64_of_bits(uint64_t bits) {
  union { uint64_t bits; double value; } both;
  both.bits = bits;
  return both.value;
}

/* The bits of a double. */
static uint64_t bits_of_f64(double value) {
  union { uint64_t bits; double value; } both;
  both.value = value;
  return both.bits;
}

/* x + y; it wraps around. */
static int32_t add_i32(int32_t x, int32_t y) {
  return (int32_t)((uint32_t)x + (uint32_t)y);
}

/* x + y; it wraps around. */
static int64_t add_i64(int64_t x, int64_t y) {
  return (int64_t)((uint64_t)x + (uint64_t)y);
}

/* x - y; it wraps around. */
static int32_t sub_i32(int32_t x, int32_t y) {
  return (int32_t)((uint32_t)x - (uint32_t)y);
}

/* x - y; it wraps around. */
static int64_t sub_i64(int64_t x, int64_t y) {
  return (int64_t)((uint64_t)x - (uint64_t)y);
}

/* x y; it wraps around. */
static int32_t mul_i32(int32_t x, int32_t y) {
  return (int32_t)((uint32_t)x * (uint32_t)y);
}

/* x y; it wraps around. */
static int64_t mul_i64(int64_t x, int64_t y) {
  return (int64_t)((uint64_t)x * (uint64_t)y);
}

/* x shifted to the left by y bits; it wraps around. */
static int32_t shl_i32(int32_t x, int32_t y) {
  return (int32_t)((uint32_t)x << y);
}

/* x shifted to the left by y bits; it wraps around. */
static int64_t shl_i64(int64_t x, int64_t y) {
  return (int64_t)((uint64_t)x << y);
}

/* |x|; that of the least number is itself. */
static int8_t abs_i8(int8_t x) {
  return (int8_t)(x < 0 ? -x : x);
}

/* |x|; that of the least number is itself. */
static int16_t abs_i16(int16_t x) {
  return (int16_t)(x < 0 ? -x : x);
}

/* |x|; that of the least number is itself. */
static int32_t abs_i32(int32_t x) {
  return x < 0 ? (int32_t)(0 - (uint32_t)x) : x;
}

/* |x|; that of the least number is itself. */
static int64_t abs_i64(int64_t x) {
  return x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
}

/* x without what is behind the point. What no int32_t comes near is the least one, as on x86. */
static int32_t i32_of_f32(float x) {
  return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)x : INT32_MIN;
}

/* x without what is behind the point. What no int32_t comes near is the least one, as on x86. */
static int32_t i32_of_f64(double x) {
  return x > -2147483649.0 && x < 2147483648.0 ? (int32_t)x : INT32_MIN;
}

/* x without what is behind the point. What no int64_t comes near is the least one, as on x86. */
static int64_t i64_of_f32(float x) {
  return x >= -9223372036854775808.0f && x < 9223372036854775808.0f ? (int64_t)x : INT64_MIN;
}

/* x without what is behind the point. What no int64_t comes near is the least one, as on x86. */
static int64_t i64_of_f64(double x) {
  return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (int64_t)x : INT64_MIN;
}

/* x without what is behind the point; negative numbers wrap around. */
static uint64_t u64_of_f32(float x) {
  return x < 9223372036854775808.0f ? (uint64_t)i64_of_f32(x) : x < 18446744073709551616.0f ? (uint64_t)x : UINT64_MAX;
}

/* x without what is behind the point; negative numbers wrap around. */
static uint64_t u64_of_f64(double x) {
  return x < 9223372036854775808.0 ? (uint64_t)i64_of_f64(x) : x < 18446744073709551616.0 ? (uint64_t)x : UINT64_MAX;
}

/* The larger; nan if either is nan. */
static float max_f32(float x, float y) {
  return x != x ? x : x > y ? x : y;
}

/* The larger; nan if either is nan. */
static double max_f64(double x, double y) {
  return x != x ? x : x > y ? x : y;
}

/* The smaller; nan if either is nan. */
static float min_f32(float x, float y) {
  return x != x ? x : x < y ? x : y;
}

/* The smaller; nan if either is nan. */
static double min_f64(double x, double y) {
  return x != x ? x : x < y ? x : y;
}

/* The larger. */
static int8_t max_i8(int8_t x, int8_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static int8_t min_i8(int8_t x, int8_t y) {
  return x < y ? x : y;
}

/* The larger. */
static int16_t max_i16(int16_t x, int16_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static int16_t min_i16(int16_t x, int16_t y) {
  return x < y ? x : y;
}

/* The larger. */
static int32_t max_i32(int32_t x, int32_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static int32_t min_i32(int32_t x, int32_t y) {
  return x < y ? x : y;
}

/* The larger. */
static int64_t max_i64(int64_t x, int64_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static int64_t min_i64(int64_t x, int64_t y) {
  return x < y ? x : y;
}

/* The larger. */
static uint8_t max_u8(uint8_t x, uint8_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static uint8_t min_u8(uint8_t x, uint8_t y) {
  return x < y ? x : y;
}

/* The larger. */
static uint16_t max_u16(uint16_t x, uint16_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static uint16_t min_u16(uint16_t x, uint16_t y) {
  return x < y ? x : y;
}

/* The larger. */
static uint32_t max_u32(uint32_t x, uint32_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static uint32_t min_u32(uint32_t x, uint32_t y) {
  return x < y ? x : y;
}

/* The larger. */
static uint64_t max_u64(uint64_t x, uint64_t y) {
  return x > y ? x : y;
}

/* The smaller. */
static uint64_t min_u64(uint64_t x, uint64_t y) {
  return x < y ? x : y;
}

/* Whether either is true. */
static bool max_bool(bool x, bool y) {
  return x || y;
}

/* Whether both are true. */
static bool min_bool(bool x, bool y) {
  return x && y;
}

/* The float that a bfloat16 is: its upper half. */
static float f32_of_bf16(uint16_t x) {
  return f32_of_bits((uint32_t)x << 16);
}

/* The nearest bfloat16, halves to even; nan stays nan. */
static uint16_t bf16_of_f32(float x) {
  const uint32_t bits = bits_of_f32(x);
  if (x != x) return (uint16_t)((bits >> 16 & 0x8000) | 0x7FC0);
  return (uint16_t)((bits + ((bits >> 16 & 1) + 0x7FFF)) >> 16);
}

/* The float that a float16 is. A subnormal is its integer times 2^-24, exactly. */
static float f32_of_f16(uint16_t x) {
  const uint32_t sign = (uint32_t)(x & 0x8000) << 16, rest = x & 0x7FFF;
  if (rest >= 0x7C00) return f32_of_bits(sign | 0x7F800000 | rest << 13);
  if (rest >= 0x0400) return f32_of_bits(sign | ((rest << 13) + 0x38000000));
  return f32_of_bits(sign | bits_of_f32((float)rest * 0x1p-24f));
}

/* The nearest float16, halves to even; nan stays nan. The addition of a power of two rounds subnormals. */
static uint16_t f16_of_f32(float x) {
  const uint32_t bits = bits_of_f32(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
  if (rest > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (rest >> 13 & 0x3FF));
  if (rest >= 0x47800000) return (uint16_t)(sign | 0x7C00);
  if (rest >= 0x38800000) return (uint16_t)(sign | ((rest + ((rest >> 13 & 1) + 0xFFF) - 0x38000000) >> 13));
  return (uint16_t)(sign | (bits_of_f32(f32_of_bits(rest) + 0.5f) - 0x3F000000));
}

/* x y + z, rounded once. Without an instruction for it: the product is exact in double, and the sum is rounded to odd there, so that
   rounding it to float is as good as rounding once (Boldo and Melquiond 2008). */
static float fma_f32(float x, float y, float z) {
#ifdef FP_FAST_FMAF
  return fmaf(x, y, z);
#else
  const double product = (double)x * (double)y, sum = product + (double)z;
  const double part = sum - product, error = (product - (sum - part)) + ((double)z - part);
  union { double value; uint64_t bits; } odd;
  odd.value = sum;
  if ((odd.bits & 1) == 0 && (error > 0 || error < 0)) {
    odd.bits = (error > 0) == (sum > 0) ? odd.bits + 1 : odd.bits - 1;
  }
  return (float)odd.value;
#endif
}

#ifndef FP_FAST_FMA
/* A number of 128 bits, times 2^exponent. */
struct wide {
  uint64_t high, low;
  int exponent;
};

/* The number without its last `count` bits. If one of these is set, the last bit of the result is as well. */
static struct wide shifted_right(struct wide x, int count) {
  struct wide y = {0, 0, x.exponent + count};
  if (count == 0) return x;
  if (count < 64) {
    y.high = x.high >> count;
    y.low = x.low >> count | x.high << (64 - count) | (x.low << (64 - count) != 0);
  } else if (count == 64) {
    y.low = x.high | (x.low != 0);
  } else if (count < 128) {
    y.low = x.high >> (count - 64) | ((x.high << (128 - count) | x.low) != 0);
  } else {
    y.low = (x.high | x.low) != 0;
  }
  return y;
}

/* The digits of a double that is not zero, 53 bits, the first of which is set; its exponent goes to `exponent`. */
static uint64_t digits_of_f64(double x, int *exponent) {
  union { double value; uint64_t bits; } both;
  both.value = x;
  uint64_t digits = both.bits & 0xFFFFFFFFFFFFFull;
  *exponent = (int)(both.bits >> 52 & 0x7FF);
  if (*exponent > 0) return digits | 1ull << 52;
  for (*exponent = 1; digits >> 52 == 0; --*exponent) digits <<= 1;
  return digits;
}
#endif

/* x y + z, rounded once. Without an instruction for it: exactly, in integers of 128 bits. */
static double fma_f64(double x, double y, double z) {
#ifdef FP_FAST_FMA
  return fma(x, y, z);
#else
  if (!(x - x == 0 && y - y == 0)) return x * y + z; /* one is infinite, or nan */
  if (!(z - z == 0)) return z;
  if (x == 0 || y == 0) return x * y + z;
  if (z == 0) return x * y;
  int of_x, of_y, of_z;
  const uint64_t a = digits_of_f64(x, &of_x), b = digits_of_f64(y, &of_y), c = digits_of_f64(z, &of_z);
  const bool below = (x < 0) != (y < 0), subtract = below != (z < 0);
  /* The product, in the bits from 124 on; and z, likewise. */
  const uint64_t middle = (a >> 32) * (b & 0xFFFFFFFF) + ((a & 0xFFFFFFFF) * (b & 0xFFFFFFFF) >> 32);
  const uint64_t cross = (a & 0xFFFFFFFF) * (b >> 32) + (middle & 0xFFFFFFFF);
  const uint64_t upper = (a >> 32) * (b >> 32) + (middle >> 32) + (cross >> 32), lower = a * b;
  struct wide p = {upper << 20 | lower >> 44, lower << 20, of_x + of_y - 2170}, q = {c << 8, 0, of_z - 1147}, sum;
  bool negative = below;
  if (p.exponent > q.exponent) q = shifted_right(q, p.exponent - q.exponent);
  else p = shifted_right(p, q.exponent - p.exponent);
  sum.exponent = p.exponent;
  if (!subtract) {
    sum.low = p.low + q.low;
    sum.high = p.high + q.high + (sum.low < p.low);
  } else {
    if (p.high < q.high || (p.high == q.high && p.low < q.low)) {
      const struct wide other = p;
      p = q;
      q = other;
      negative = !below;
    }
    sum.low = p.low - q.low;
    sum.high = p.high - q.high - (p.low < q.low);
  }
  if ((sum.high | sum.low) == 0) return 0;
  for (; sum.high >> 63 == 0; --sum.exponent) {
    sum.high = sum.high << 1 | sum.low >> 63;
    sum.low <<= 1;
  }
  int exponent = sum.exponent + 1150;
  if (exponent <= 0) { /* a subnormal has fewer bits */
    sum = shifted_right(sum, 1 - exponent < 128 ? 1 - exponent : 128);
    exponent = 1;
  }
  uint64_t digits = sum.high >> 11;
  const uint64_t rest = sum.high & 0x7FF;
  if (rest > 0x400 || (rest == 0x400 && (sum.low != 0 || (digits & 1) != 0))) ++digits;
  if (exponent >= 2047) digits = 2047ull << 52;
  else digits += (uint64_t)(exponent - 1) << 52;
  union { uint64_t bits; double value; } result;
  result.bits = digits | (uint64_t)negative << 63;
  return result.value;
#endif
}

/* Whether x comes before y; nan comes last. */
static bool before_f32(float x, float y) {
  return x < y || (y != y && x == x);
}

/* Whether x comes before y; nan comes last. */
static bool before_f64(double x, double y) {
  return x < y || (y != y && x == x);
}
