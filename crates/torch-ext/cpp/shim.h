// What libtorch has and tch does not bind. Tensors cross as `at::Tensor*`, the type that torch-sys calls C_tensor.
// Every function returns nullptr on success or a message made with malloc, which the caller frees with lp_free.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
void lp_free(char* message);

// A tensor over memory that someone else owns: `release(owner)` runs once, when the last view of it is gone.
char* lp_tensor_over(void** out, const void* data, const int64_t* sizes, size_t n_sizes, int8_t scalar_type,
                     void* owner, void (*release)(void*));

// One step of torch.optim.AdamW for `n` tensors in the fused kernel of libtorch.
// `steps` are float32 scalars, already counting this step.
char* lp_fused_adamw(void** params, void** grads, void** exp_avgs, void** exp_avg_sqs, void** steps, size_t n,
                     double lr, double beta1, double beta2, double weight_decay, double eps);

// The three below take contiguous CPU tensors on a processor that has the kernels of kernels.h.

// One step of AdamW on a float32 master of a bfloat16 weight, which receives the master rounded; one pass over memory.
// `gradient` is float32 or bfloat16 and multiplied by `scale` first; `step` counts from 1.
char* lp_adamw_mixed(void* weight, void* master, const void* gradient, void* exp_avg, void* exp_avg_sq, int64_t step,
                     double lr, double beta1, double beta2, double weight_decay, double eps, double scale);
// Sum of the squares of a float32 or bfloat16 tensor, in an order that no number of threads changes.
char* lp_squares(double* out, const void* x);
// sum += x, float32 and bfloat16.
char* lp_add(void* sum, const void* x);

// Lets go of the gradient of a leaf, so that the next one takes its place and is not added to it.
char* lp_forget_grad(void* leaf);

// Most bytes that tensors on GPU `index` have taken at once.
char* lp_device_peak(int64_t index, int64_t* bytes);

// Counts the bytes of CPU tensors that this thread makes and frees, from start to stop: how many there are now, and the
// most there were. Not those over mapped files.
char* lp_meter_start(void);
char* lp_meter_read(int64_t* now, int64_t* peak);
char* lp_meter_stop(void);

// Seeds a backward pass: gradients of sum(y * dy) are added to those of the leaves below y.
char* lp_backward(const void* y, const void* dy);

// Whether this processor has the kernels of kernels.h.
int lp_has_kernels(void);
// For tests: whether this thread does without them, as a GPU does.
void lp_without_kernels(int on);

// The functions below have a backward pass of their own. Those marked (CPU) work on float32 and bfloat16 of a CPU that
// has the kernels; the others take any device.

// Root-mean-square norm of x, or of x + r: then *h receives the sum. [.., d] and w [d].
char* lp_norm(void** h, void** y, const void* x, const void* r, const void* w, double eps);

// silu(gate) * up.
char* lp_swiglu(void** y, const void* gate, const void* up);

// (CPU) Causal attention. q [b, t, heads * size], k and v with kv_heads, not yet rotated; cosine and sine
// [b or 1, 1, t, size]; first int32 [b or 1, t], the first key that each query sees.
char* lp_attention(void** y, const void* q, const void* k, const void* v, const void* cosine, const void* sine,
                   const void* first, int64_t heads, int64_t kv_heads, int64_t size);

// Causal attention of documents that follow each other, on a GPU, in bfloat16 or half precision: libtorch's flash attention.
// As lp_attention, but starts int32 [n + 1] are the places in the [b * t] tokens where a document or a row begins, and
// b * t; `longest` is the most tokens from one to the next. window: keys that a query sees, itself included; 0 for all.
char* lp_flash(void** y, const void* q, const void* k, const void* v, const void* cosine, const void* sine,
               const void* starts, int64_t longest, int64_t heads, int64_t kv_heads, int64_t size, int64_t window);

// x w^T + b for a trained w: the gradient of w is added to the one that is there, in one product. b may be null.
char* lp_linear(void** y, const void* x, const void* w, const void* b);

// The head and its loss: objective = sum(ce_weight * CE + kl_weight * KL(base || model)) over the rows of hidden [n, d].
// Gradients are made in the forward pass, chunk by chunk, so that logits [n, v] never exist whole; `chunk` rows at a time.
// base_hidden [n, d] and base_weight may be null: no KL. sums: float64 [2], CE and KL, with no gradient.
char* lp_head_loss(void** objective, void** sums, const void* hidden, const void* weight, const void* targets,
                   const void* base_hidden, const void* base_weight, double ce_weight, double kl_weight, int64_t chunk);
}
