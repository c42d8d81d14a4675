// The inner loops of cached inference on the CPU, compiled once for each level of vector instructions. This header and
// decode_kernels.cpp use no template or inline function of any library: the linker would keep one copy of it, perhaps the one
// with instructions that the machine does not have.
#pragma once
#include <stdint.h>

// Tokens in a page of keys.
#define LP_PAGE 16

// One row of attention: a query of one head, and where its output goes.
struct LpRow {
  const float* q;     // [head_dim], already scaled
  void* out;          // [head_dim]
  int64_t position;   // sees keys at positions up to this one
};

// Consecutive tokens of a sequence in consecutive slots; `slot` is a multiple of LP_PAGE.
struct LpSpan {
  int64_t slot;
  int64_t len;
};

// What the keys and values of one head look like. Keys lie in pages [head_dim][LP_PAGE], so that 16 of them are met at
// once; values as [slots][padded].
struct LpHead {
  const void* keys;
  const void* values;
  int64_t head_dim;
  int64_t padded;     // head_dim, rounded up to a multiple of 16
  int64_t window;     // 0: none
};

// For one dtype of storage, float32 or bfloat16. Arithmetic is float32 everywhere; results are rounded once.
struct LpKernels {
  // out[m][n] = x[m] . w[n] + bias[n] for n in [begin, end); x is float32 [tokens][k], w [.][k], out [tokens][ldo].
  void (*linear)(const float* x, const void* w, const void* bias, void* out, int64_t tokens, int64_t k, int64_t begin,
                 int64_t end, int64_t ldo);
  // Most tokens that `linear` takes at a time.
  int64_t linear_tokens;
  // Root-mean-square norm of a row.
  void (*norm)(const void* x, const void* weight, void* out, int64_t n, double eps);
  // Adds a row to another.
  void (*add)(void* x, const void* y, int64_t n);
  // gate = silu(gate) * up.
  void (*gate)(void* gate, const void* up, int64_t n);
  // Rotates the heads of a query and scales them into float32.
  void (*query)(const void* x, float* out, const float* cos, const float* sin, int64_t heads, int64_t head_dim,
                float scale);
  // Rotates one head of a key into slot `slot` of its pages, and copies a head of a value.
  void (*key)(const void* x, void* pages, const float* cos, const float* sin, int64_t head_dim, int64_t slot);
  void (*value)(const void* x, void* row, int64_t head_dim);
  // Attention of up to 8 rows of one key head. `scratch` holds 8 * scratch_row floats, and scratch_row is at least the
  // sum of the spans' lengths, each rounded up to LP_PAGE.
  void (*attend)(const LpRow* rows, int64_t n_rows, const LpHead* head, const LpSpan* spans, int64_t n_spans,
                 float* scratch, int64_t scratch_row);
  // A row of logits: the largest, the place of the first largest, and the sum of exp(logit - largest).
  void (*row)(const void* logits, int64_t n, float* largest, int64_t* place, double* sum);
  void (*widen)(const void* x, float* out, int64_t n);
};

extern const LpKernels lp_kernels_f32_generic, lp_kernels_bf16_generic;
#if defined(__x86_64__)
extern const LpKernels lp_kernels_f32_avx2, lp_kernels_bf16_avx2, lp_kernels_f32_avx512, lp_kernels_bf16_avx512;
#endif
