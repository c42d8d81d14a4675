// See shim.h. Exceptions never cross into Rust: each body runs inside `guarded`.
#include "shim.h"

#include "tensors.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <ATen/core/grad_mode.h>

#include <cstdlib>
#include <vector>

namespace {
std::vector<at::Tensor> tensors(void** pointers, size_t n) {
  std::vector<at::Tensor> list;
  list.reserve(n);
  for (size_t i = 0; i < n; ++i) list.push_back(*static_cast<at::Tensor*>(pointers[i]));
  return list;
}
}  // namespace

void lp_free(char* message) { std::free(message); }

char* lp_tensor_over(void** out, const void* data, const int64_t* sizes, size_t n_sizes, int8_t scalar_type,
                     void* owner, void (*release)(void*)) {
  return guarded([&] {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type));
    at::Tensor tensor = at::from_blob(const_cast<void*>(data), at::IntArrayRef(sizes, n_sizes),
                                      [owner, release](void*) { release(owner); }, options);
    *out = new at::Tensor(std::move(tensor));
  });
}

char* lp_fused_adamw(void** params, void** grads, void** exp_avgs, void** exp_avg_sqs, void** steps, size_t n,
                     double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = tensors(params, n), g = tensors(grads, n), m = tensors(exp_avgs, n), v = tensors(exp_avg_sqs, n),
         s = tensors(steps, n);
    at::_fused_adamw_(p, g, m, v, /*max_exp_avg_sqs=*/{}, s, lr, beta1, beta2, weight_decay, eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  });
}

char* lp_device_peak(int64_t index, int64_t* bytes) {
  return guarded([&] {
    auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    *bytes = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  });
}
