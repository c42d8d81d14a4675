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
}
