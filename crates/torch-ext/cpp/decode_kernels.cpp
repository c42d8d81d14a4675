// See decode_kernels.h. Vectors are those of the compiler (GCC and Clang), LANES wide; build.rs compiles this file once for each
// LP_LEVEL with the flags that go with it.
#include "decode_kernels.h"

#include <math.h>
#include <string.h>

#ifndef LP_LEVEL
#define LP_LEVEL generic
#define LANES 4
#define TILE 4
#endif

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

namespace {
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))

struct bf16 {
  uint16_t bits;
};

INLINE float widen(float x) { return x; }
INLINE float widen(bf16 x) {
  uint32_t bits = (uint32_t)x.bits << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}
INLINE void narrow(float x, float* out) { *out = x; }
INLINE void narrow(float x, bf16* out) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  // Round to nearest, of two equally near to the even one; a NaN stays one.
  out->bits = x == x ? (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16) : (uint16_t)0x7fc0;
}
template <typename T>
INLINE float rounded(float x) {
  T y;
  narrow(x, &y);
  return widen(y);
}

INLINE vec load(const float* p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}
INLINE vec load(const bf16* p) {
  hvec h;
  memcpy(&h, p, sizeof h);
  uvec u = __builtin_convertvector(h, uvec) << 16;
  return (vec)u;
}
INLINE void store(float* p, vec v) { memcpy(p, &v, sizeof v); }
INLINE void store(bf16* p, vec v) {
  uvec u = (uvec)v;
  uvec r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  uvec number = (uvec)(v == v);
  r = (r & number) | (0x7fc0u & ~number);
  hvec h = __builtin_convertvector(r, hvec);
  memcpy(p, &h, sizeof h);
}
template <typename T>
INLINE vec rounded(vec v) {
  if constexpr (sizeof(T) == sizeof(float)) return v;
  T row[LANES];
  store(row, v);
  return load(row);
}
INLINE vec splat(float x) { return x - (vec){}; }
INLINE vec max(vec a, vec b) { return a > b ? a : b; }

INLINE float sum(vec v) {
  float lanes[LANES];
  store(lanes, v);
  for (int step = LANES / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  return lanes[0];
}

// e^x to 1 or 2 units in the last place; 0 below -87. Range reduction to [-ln2/2, ln2/2], then the Taylor polynomial of
// degree 7, whose rest there is below 2^-27.
INLINE vec expv(vec x) {
  ivec tiny = x < splat(-87.0f);
  vec y = tiny ? splat(0.0f) : x;
  const vec magic = splat(12582912.0f);
  vec n = (y * splat(1.44269504f) + magic) - magic;
  vec r = y - n * splat(0.693359375f);
  r = r + n * splat(2.12194440e-4f);
  vec p = splat(1.0f / 5040.0f);
  p = p * r + splat(1.0f / 720.0f);
  p = p * r + splat(1.0f / 120.0f);
  p = p * r + splat(1.0f / 24.0f);
  p = p * r + splat(1.0f / 6.0f);
  p = p * r + splat(0.5f);
  p = p * r + splat(1.0f);
  p = p * r + splat(1.0f);
  ivec exponent = (__builtin_convertvector(n, ivec) + 127) << 23;
  return tiny ? splat(0.0f) : p * (vec)exponent;
}

// ROWS rows of w times TOKENS rows of x: each vector of w is used TOKENS times, each of x ROWS times.
template <typename T, int ROWS, int TOKENS>
INLINE void tile(const float* x, const T* w, const T* bias, T* out, int64_t k, int64_t ldo) {
  vec acc[ROWS][TOKENS];
  for (int r = 0; r < ROWS; ++r)
    for (int t = 0; t < TOKENS; ++t) acc[r][t] = splat(0.0f);
  int64_t i = 0;
  for (; i + LANES <= k; i += LANES) {
    vec wv[ROWS];
    for (int r = 0; r < ROWS; ++r) wv[r] = load(w + r * k + i);
    for (int t = 0; t < TOKENS; ++t) {
      vec xv = load(x + t * k + i);
      for (int r = 0; r < ROWS; ++r) acc[r][t] += wv[r] * xv;
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int t = 0; t < TOKENS; ++t) {
      float y = sum(acc[r][t]);
      for (int64_t j = i; j < k; ++j) y += widen(w[r * k + j]) * x[t * k + j];
      if (bias) y += widen(bias[r]);
      narrow(y, out + t * ldo + r);
    }
}

// One token: two vectors of each row at a time, so that additions do not wait for each other.
template <typename T, int ROWS>
INLINE void tile_one(const float* x, const T* w, const T* bias, T* out, int64_t k) {
  vec acc[ROWS][2];
  for (int r = 0; r < ROWS; ++r) acc[r][0] = acc[r][1] = splat(0.0f);
  int64_t i = 0;
  for (; i + 2 * LANES <= k; i += 2 * LANES) {
    vec x0 = load(x + i), x1 = load(x + i + LANES);
    for (int r = 0; r < ROWS; ++r) {
      acc[r][0] += load(w + r * k + i) * x0;
      acc[r][1] += load(w + r * k + i + LANES) * x1;
    }
  }
  for (int r = 0; r < ROWS; ++r) {
    float y = sum(acc[r][0] + acc[r][1]);
    for (int64_t j = i; j < k; ++j) y += widen(w[r * k + j]) * x[j];
    if (bias) y += widen(bias[r]);
    narrow(y, out + r);
  }
}

template <typename T, int TOKENS>
void linear_of(const float* x, const T* w, const T* bias, T* out, int64_t k, int64_t begin, int64_t end, int64_t ldo) {
  constexpr int ROWS = TOKENS == 1 ? 4 : (LANES == 16 ? (TOKENS <= 4 ? 4 : 3) : 2);
  int64_t n = begin;
  for (; n + ROWS <= end; n += ROWS) {
    const T* b = bias ? bias + n : nullptr;
    if constexpr (TOKENS == 1)
      tile_one<T, ROWS>(x, w + n * k, b, out + n, k);
    else
      tile<T, ROWS, TOKENS>(x, w + n * k, b, out + n, k, ldo);
  }
  for (; n < end; ++n) {
    const T* b = bias ? bias + n : nullptr;
    if constexpr (TOKENS == 1)
      tile_one<T, 1>(x, w + n * k, b, out + n, k);
    else
      tile<T, 1, TOKENS>(x, w + n * k, b, out + n, k, ldo);
  }
}

template <typename T>
void linear(const float* x, const void* w, const void* bias, void* out, int64_t tokens, int64_t k, int64_t begin,
            int64_t end, int64_t ldo) {
  const T *wt = (const T*)w, *b = (const T*)bias;
  T* o = (T*)out;
#define CASE(N) \
  case N: return linear_of<T, N>(x, wt, b, o, k, begin, end, ldo);
  switch (tokens) {
    CASE(1)
    CASE(2)
    CASE(3)
    CASE(4)
#if TILE > 4
    CASE(5)
    CASE(6)
    CASE(7)
    CASE(8)
#endif
  }
#undef CASE
}

template <typename T>
void norm(const void* px, const void* pw, void* po, int64_t n, double eps) {
  const T *x = (const T*)px, *w = (const T*)pw;
  T* out = (T*)po;
  vec acc = splat(0.0f);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    vec v = load(x + i);
    acc += v * v;
  }
  float square = sum(acc);
  for (int64_t j = i; j < n; ++j) square += widen(x[j]) * widen(x[j]);
  float scale = 1.0f / sqrtf(square / (float)n + (float)eps);
  // The weight multiplies after the rounding, as in transformers.
  for (i = 0; i + LANES <= n; i += LANES) store(out + i, load(w + i) * rounded<T>(load(x + i) * scale));
  for (; i < n; ++i) narrow(widen(w[i]) * rounded<T>(widen(x[i]) * scale), out + i);
}

template <typename T>
void add(void* px, const void* py, int64_t n) {
  T* x = (T*)px;
  const T* y = (const T*)py;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(x + i, load(x + i) + load(y + i));
  for (; i < n; ++i) narrow(widen(x[i]) + widen(y[i]), x + i);
}

template <typename T>
void gate(void* pg, const void* pu, int64_t n) {
  T* g = (T*)pg;
  const T* u = (const T*)pu;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    vec x = load(g + i);
    vec silu = rounded<T>(x / (splat(1.0f) + expv(-x)));
    store(g + i, silu * load(u + i));
  }
  for (; i < n; ++i) {
    float x = widen(g[i]);
    narrow(rounded<T>(x / (1.0f + expf(-x))) * widen(u[i]), g + i);
  }
}

// Halves are paired: dimension i turns with i + head_dim / 2.
template <typename T>
void query(const void* px, float* out, const float* cos, const float* sin, int64_t heads, int64_t head_dim,
           float scale) {
  const T* x = (const T*)px;
  int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h, x += head_dim, out += head_dim)
    for (int64_t i = 0; i < half; ++i) {
      float a = widen(x[i]), b = widen(x[i + half]);
      out[i] = rounded<T>(a * cos[i] - b * sin[i]) * scale;
      out[i + half] = rounded<T>(b * cos[i] + a * sin[i]) * scale;
    }
}

template <typename T>
void key(const void* px, void* pages, const float* cos, const float* sin, int64_t head_dim, int64_t slot) {
  const T* x = (const T*)px;
  T* page = (T*)pages + slot / LP_PAGE * LP_PAGE * head_dim + slot % LP_PAGE;
  int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    float a = widen(x[i]), b = widen(x[i + half]);
    narrow(a * cos[i] - b * sin[i], page + i * LP_PAGE);
    narrow(b * cos[i] + a * sin[i], page + (i + half) * LP_PAGE);
  }
}

template <typename T>
void value(const void* x, void* row, int64_t head_dim) {
  memcpy(row, x, (size_t)head_dim * sizeof(T));
}

constexpr int HALVES = LP_PAGE / LANES;

// Scores of a page of keys for ROWS queries.
template <typename T, int ROWS>
INLINE void page_scores(const float* const* q, const T* page, int64_t head_dim, float* out, int64_t row) {
  vec acc[ROWS][HALVES];
  for (int r = 0; r < ROWS; ++r)
    for (int h = 0; h < HALVES; ++h) acc[r][h] = splat(0.0f);
  for (int64_t d = 0; d < head_dim; ++d) {
    vec k[HALVES];
    for (int h = 0; h < HALVES; ++h) k[h] = load(page + d * LP_PAGE + h * LANES);
    for (int r = 0; r < ROWS; ++r) {
      vec x = splat(q[r][d]);
      for (int h = 0; h < HALVES; ++h) acc[r][h] += x * k[h];
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int h = 0; h < HALVES; ++h) store(out + r * row + h * LANES, acc[r][h]);
}

// out[r] += sum over n tokens of weights[r][i] * values[i], for WIDE vectors of the head from `d` on.
template <typename T, int ROWS, int WIDE>
INLINE void mix(const float* weights, int64_t row, const T* values, int64_t padded, int64_t n, float* out) {
  vec acc[ROWS][WIDE];
  for (int r = 0; r < ROWS; ++r)
    for (int c = 0; c < WIDE; ++c) acc[r][c] = load(out + r * padded + c * LANES);
  for (int64_t i = 0; i < n; ++i) {
    vec v[WIDE];
    for (int c = 0; c < WIDE; ++c) v[c] = load(values + i * padded + c * LANES);
    for (int r = 0; r < ROWS; ++r) {
      vec p = splat(weights[r * row + i]);
      for (int c = 0; c < WIDE; ++c) acc[r][c] += p * v[c];
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int c = 0; c < WIDE; ++c) store(out + r * padded + c * LANES, acc[r][c]);
}

#define MOST_HEAD 512

template <typename T, int ROWS>
void attend_of(const LpRow* rows, const LpHead* head, const LpSpan* spans, int64_t n_spans, float* scratch,
               int64_t row) {
  const float* q[ROWS];
  int64_t last = 0, first = INT64_MAX;
  for (int r = 0; r < ROWS; ++r) {
    q[r] = rows[r].q;
    last = rows[r].position > last ? rows[r].position : last;
    first = rows[r].position < first ? rows[r].position : first;
  }
  // No row sees a key before this position, or after `last`.
  int64_t begin = head->window && first + 1 > head->window ? first + 1 - head->window : 0;
  int64_t dim = head->head_dim, padded = head->padded, used = 0, position = 0;
  for (int64_t s = 0; s < n_spans && position <= last; position += spans[s].len, ++s) {
    int64_t len = spans[s].len < last + 1 - position ? spans[s].len : last + 1 - position;
    int64_t skip = begin > position ? (begin - position) / LP_PAGE * LP_PAGE : 0;
    const T* page = (const T*)head->keys + (spans[s].slot + skip) * dim;
    for (int64_t at = skip; at < len; at += LP_PAGE, used += LP_PAGE, page += LP_PAGE * dim) {
      page_scores<T, ROWS>(q, page, dim, scratch + used, row);
      int64_t here = position + at;
      int64_t full = at + LP_PAGE <= len && here + LP_PAGE - 1 <= first;
      if (full && (!head->window || here > last - head->window)) continue;
      for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < LP_PAGE; ++i) {
          int64_t key = here + i, query = rows[r].position;
          if (at + i >= len || key > query || (head->window && key <= query - head->window))
            scratch[r * row + used + i] = -INFINITY;
        }
    }
  }
  float total[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    float* s = scratch + r * row;
    vec top = load(s);
    for (int64_t i = LANES; i < used; i += LANES) top = max(top, load(s + i));
    float lanes[LANES];
    store(lanes, top);
    float largest = lanes[0];
    for (int i = 1; i < LANES; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
    vec acc = splat(0.0f);
    for (int64_t i = 0; i < used; i += LANES) {
      vec e = expv(load(s + i) - largest);
      acc += e;
      store(s + i, e);
    }
    total[r] = sum(acc);
  }
  float out[ROWS * MOST_HEAD];
  memset(out, 0, (size_t)(ROWS * padded) * sizeof(float));
  used = position = 0;
  for (int64_t s = 0; s < n_spans && position <= last; position += spans[s].len, ++s) {
    int64_t len = spans[s].len < last + 1 - position ? spans[s].len : last + 1 - position;
    int64_t skip = begin > position ? (begin - position) / LP_PAGE * LP_PAGE : 0;
    if (skip >= len) continue;
    const T* values = (const T*)head->values + (spans[s].slot + skip) * padded;
    constexpr int GROUP = ROWS > 4 ? 4 : ROWS;
    for (int r = 0; r < ROWS; r += GROUP) {
      const float* weights = scratch + r * row + used;
      int64_t c = 0;
      for (; c + 4 * LANES <= padded; c += 4 * LANES)
        mix<T, GROUP, 4>(weights, row, values + c, padded, len - skip, out + r * padded + c);
      for (; c < padded; c += LANES)
        mix<T, GROUP, 1>(weights, row, values + c, padded, len - skip, out + r * padded + c);
    }
    used += (len - skip + LP_PAGE - 1) / LP_PAGE * LP_PAGE;
  }
  for (int r = 0; r < ROWS; ++r) {
    T* to = (T*)rows[r].out;
    for (int64_t d = 0; d < dim; ++d) narrow(out[r * padded + d] / total[r], to + d);
  }
}

template <typename T>
void attend(const LpRow* rows, int64_t n, const LpHead* head, const LpSpan* spans, int64_t n_spans, float* scratch,
            int64_t row) {
  switch (n) {
    case 1: return attend_of<T, 1>(rows, head, spans, n_spans, scratch, row);
    case 2: return attend_of<T, 2>(rows, head, spans, n_spans, scratch, row);
    case 4: return attend_of<T, 4>(rows, head, spans, n_spans, scratch, row);
    case 8: return attend_of<T, 8>(rows, head, spans, n_spans, scratch, row);
    default: break;
  }
  // Another number is made of these.
  int64_t part = n > 8 ? 8 : (n > 4 ? 4 : 2);
  attend<T>(rows, part, head, spans, n_spans, scratch, row);
  attend<T>(rows + part, n - part, head, spans, n_spans, scratch, row);
}

template <typename T>
void row(const void* p, int64_t n, float* largest, int64_t* place, double* total) {
  const T* x = (const T*)p;
  vec top = splat(-INFINITY);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) top = max(top, load(x + i));
  float lanes[LANES];
  store(lanes, top);
  float best = lanes[0];
  for (int l = 1; l < LANES; ++l) best = lanes[l] > best ? lanes[l] : best;
  for (int64_t j = i; j < n; ++j) best = widen(x[j]) > best ? widen(x[j]) : best;
  *largest = best;
  *place = 0;
  for (int64_t j = 0; j < n; ++j)
    if (widen(x[j]) == best) {
      *place = j;
      break;
    }
  double all = 0.0;
  for (i = 0; i + LANES <= n;) {
    // Short float32 sums, long float64 ones.
    vec acc = splat(0.0f);
    for (int part = 0; part < 32 && i + LANES <= n; ++part, i += LANES) acc += expv(load(x + i) - best);
    all += (double)sum(acc);
  }
  for (; i < n; ++i) all += exp((double)(widen(x[i]) - best));
  *total = all;
}

template <typename T>
void widen_row(const void* p, float* out, int64_t n) {
  const T* x = (const T*)p;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, load(x + i));
  for (; i < n; ++i) out[i] = widen(x[i]);
}
}  // namespace

#define TABLE(T)                                                                                                \
  {linear<T>, TILE, norm<T>, add<T>, gate<T>, query<T>, key<T>, value<T>, attend<T>, row<T>, widen_row<T>}
const LpKernels JOIN(lp_kernels_f32, LP_LEVEL) = TABLE(float);
const LpKernels JOIN(lp_kernels_bf16, LP_LEVEL) = TABLE(bf16);
