// Inner loops of the training path on the CPU: plain functions over plain memory, compiled once for each instruction set
// and chosen when the program runs. They know nothing of libtorch: tensors, threads and autograd are in functions.cpp.
//
// `width` is 4 for float32 and 2 for bfloat16; statistics and sums are float32 in both. A function works on the rows
// [begin, end) alone, so that threads can share a call. bfloat16 is rounded where the plain operations of
// crates/model round it: after a norm, after SiLU, after a product.
#pragma once
#include <cstddef>
#include <cstdint>

namespace llama_pro {

// One call of attention: `batch` rows of `length` tokens. q [batch, length, heads * size] is rotated already, k and v have
// `kv_heads`; rows of a token follow each other. `first` [batch, length] is the first key that a query sees: it sees those
// from there to itself. Task number i is batch i / kv_heads, key head i % kv_heads, with all its query heads.
struct Attention {
  const void *q, *k, *v;
  const int32_t* first;
  int64_t batch, length, heads, kv_heads, size;
  float scale;
};

// The numbers of one step of AdamW: master *= decay; m += lerp * (g - m); v = keep * v + (1 - keep) * g^2;
// master -= rate * m / (sqrt(v) * root + eps), for g = scale * gradient.
struct AdamwStep {
  float decay, lerp, keep, rate, root, eps, scale;
};

struct Kernels {
  // y = w * (x + r) / rms; `r` may be null, else `h` receives x + r. `inverse_rms` [rows].
  void (*norm)(int width, const void* x, const void* r, const void* w, void* h, void* y, float* inverse_rms,
               int64_t begin, int64_t end, int64_t size, float eps);
  // dx of the norm plus `extra` (may be null); adds to dw [size] where it is not null.
  void (*norm_backward)(int width, const void* dy, const void* x, const void* w, const void* extra,
                        const float* inverse_rms, void* dx, float* dw, int64_t begin, int64_t end, int64_t size);
  // Turns the heads of [rows, heads * size] by the angles of row % period; `sign` -1 turns back. May work in place.
  void (*rotate)(int width, const void* x, void* y, const void* cosine, const void* sine, int64_t period,
                 int64_t begin, int64_t end, int64_t heads, int64_t size, float sign);
  // y = silu(gate) * up, over numbers [begin, end).
  void (*swiglu)(int width, const void* gate, const void* up, void* y, int64_t begin, int64_t end);
  void (*swiglu_backward)(int width, const void* dy, const void* gate, const void* up, void* dgate, void* dup,
                          int64_t begin, int64_t end);
  // Cross-entropy of rows of logits, to nats [rows]; with base logits also KL(base || model), to kl [rows]. Where
  // `gradient` is set the logits become d(ce_weight * CE + kl_weight * KL) / dlogits.
  void (*loss)(int width, void* logits, const void* base, const int64_t* targets, float* nats, float* kl,
               float ce_weight, float kl_weight, bool gradient, int64_t begin, int64_t end, int64_t vocabulary);
  // Bytes of scratch that a task needs.
  size_t (*attention_scratch)(int width, const Attention&);
  // out like q; log_sums [batch, heads, length].
  void (*attention)(int width, const Attention&, void* out, float* log_sums, int64_t task, char* scratch);
  void (*attention_backward)(int width, const Attention&, const void* out, const void* dout, const float* log_sums,
                             void* dq, void* dk, void* dv, int64_t task, char* scratch);
  // AdamW on float32 masters of bfloat16 weights, which receive the rounded masters; the gradient has `width`.
  void (*adamw)(int width, void* weight, float* master, const void* gradient, float* m, float* v, const AdamwStep&,
                int64_t begin, int64_t end);
  // Sum of the squares of numbers [begin, end).
  double (*squares)(int width, const void* x, int64_t begin, int64_t end);
  // sum += x, x in bfloat16.
  void (*add)(float* sum, const void* x, int64_t begin, int64_t end);
};

// Those of the widest instruction set of this processor, or null where there are none: then plain operations are used.
const Kernels* kernels();
// For tests: this thread does without them.
void without_kernels(bool on);

#if defined(__x86_64__)
namespace avx2 { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
namespace avx512bf16 { extern const Kernels table; }
#endif
}  // namespace llama_pro
