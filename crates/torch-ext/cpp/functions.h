// What the autograd functions of the shim share.
#pragma once
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels.h"
#include "tensors.h"

namespace {
using at::Tensor;

// Whether a function runs in the kernels, for tensors like x. A test may switch them off for its thread.
inline bool in_kernels(const Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && llama_pro::kernels();
}

// The dtype of statistics.
inline at::ScalarType wide_of(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

inline int width_of(const Tensor& x) {
  TORCH_CHECK(x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              "the kernels take float32 and bfloat16 on the CPU, found ", x.scalar_type(), " on ", x.device());
  return static_cast<int>(x.element_size());
}

inline void like(const Tensor& x, const Tensor& y, const char* name) {
  TORCH_CHECK(x.scalar_type() == y.scalar_type() && x.device() == y.device(), name, " differs in dtype or device");
}

inline const void* in(const Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }
inline void* out(Tensor& x) { return x.defined() ? x.mutable_data_ptr() : nullptr; }
inline float* numbers(Tensor& x) { return x.mutable_data_ptr<float>(); }
inline const float* numbers(const Tensor& x) { return x.const_data_ptr<float>(); }
inline Tensor floats(at::IntArrayRef shape) { return at::empty(shape, at::kFloat); }

// Rows that are worth a thread.
inline int64_t grain(int64_t size) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, size)); }
}  // namespace
