// Sixteen floats at a time, in the vector types of GCC and Clang. Included by kernels.inc alone: everything here is local to
// the unit that is compiled for one instruction set, and no header with inline functions is included with it, or the
// linker might pick a copy that an older processor cannot run.
#pragma once
#include <stdint.h>

namespace {
struct bf16 {
  uint16_t bits;
};

constexpr int64_t LANES = 16;
typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
typedef uint32_t vu __attribute__((vector_size(64)));
typedef uint16_t vh __attribute__((vector_size(32)));

inline vf all(float x) { return vf{} + x; }
inline vu bits(vf x) { vu u; __builtin_memcpy(&u, &x, 64); return u; }
inline vf floats(vu x) { vf f; __builtin_memcpy(&f, &x, 64); return f; }

inline float widen(float x) { return x; }
inline float widen(bf16 x) { uint32_t u = uint32_t(x.bits) << 16; float f; __builtin_memcpy(&f, &u, 4); return f; }
inline vf load(const float* p) { vf v; __builtin_memcpy(&v, p, 64); return v; }
inline vf load(const bf16* p) {
  vh h;
  __builtin_memcpy(&h, p, 32);
  return floats(__builtin_convertvector(h, vu) << 16);
}

// To the nearest bfloat16, ties to even; a NaN stays one.
inline vu rounded(vf x) {
  vu u = bits(x);
  vu r = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return x != x ? vu{} + 0x7fc0 : r;
}
inline void store(float* p, vf x) { __builtin_memcpy(p, &x, 64); }
inline void store(bf16* p, vf x) {
  vh h = __builtin_convertvector(rounded(x), vh);
  __builtin_memcpy(p, &h, 32);
}
// What is left of a value that was stored as E and read again.
template <typename E> inline vf as(vf x);
template <> inline vf as<float>(vf x) { return x; }
template <> inline vf as<bf16>(vf x) { return floats(rounded(x) << 16); }

// The first n lanes, zeros behind them.
template <typename E> inline vf load(const E* p, int64_t n) {
  if (n >= LANES) return load(p);
  E part[LANES] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = p[i];
  return load(part);
}
template <typename E> inline void store(E* p, vf x, int64_t n) {
  if (n >= LANES) return store(p, x);
  E part[LANES];
  store(part, x);
  for (int64_t i = 0; i < n; ++i) p[i] = part[i];
}

inline float sum(vf x) {
  float s = 0;
  for (int i = 0; i < LANES; ++i) s += x[i];
  return s;
}
inline vf larger(vf a, vf b) { return a > b ? a : b; }
inline float largest(vf x) {
  float m = x[0];
  for (int i = 1; i < LANES; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

// e^x to two units in the last place: 2^n e^r with |r| <= ln 2 / 2 (Cephes' expf), 0 below -87.3 and infinity above 88.7.
inline vf exponential(vf x) {
  const vf magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  vf clamped = x < all(-88.0f) ? all(-88.0f) : x;
  clamped = clamped > all(89.0f) ? all(89.0f) : clamped;
  vf n = (clamped * all(1.44269504088896341f) + magic) - magic;
  vf r = clamped - n * all(0.693359375f);
  r = r - n * all(-2.12194440e-4f);
  vf p = all(1.9875691500e-4f);
  p = p * r + all(1.3981999507e-3f);
  p = p * r + all(8.3334519073e-3f);
  p = p * r + all(4.1665795894e-2f);
  p = p * r + all(1.6666665459e-1f);
  p = p * r + all(5.0000001201e-1f);
  p = p * r * r + r + all(1.0f);
  vi power = __builtin_convertvector(n, vi);
  // Two factors, so that neither leaves the range of exponents.
  vi half = power >> 1;
  vf y = p * floats((vu)((half + 127) << 23)) * floats((vu)((power - half + 127) << 23));
  y = x < all(-87.3f) ? vf{} : y;
  return x != x ? x : y;
}
}  // namespace
