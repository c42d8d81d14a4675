// What surrounds an optimizer step, each in one pass over memory. See shim.h.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <vector>

#include "kernels.h"
#include "shim.h"
#include "tensors.h"

namespace {
using at::Tensor;

// Numbers that are worth a thread; sums are made of parts of this size, whatever the number of threads.
constexpr int64_t PART = 1 << 16;

void check(const Tensor& x, at::ScalarType kind, const Tensor& shape, const char* name) {
  TORCH_CHECK(x.defined() && x.device().is_cpu() && x.is_contiguous() && x.scalar_type() == kind &&
                  x.sizes() == shape.sizes(),
              name, ": expected a contiguous tensor of shape ", shape.sizes(), " and dtype ", kind, " on the CPU");
}

int width_of(const Tensor& x, const char* name) {
  TORCH_CHECK(x.defined() && x.device().is_cpu() && x.is_contiguous() &&
                  (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              name, ": expected a contiguous float32 or bfloat16 tensor on the CPU");
  return static_cast<int>(x.element_size());
}
}  // namespace

char* lp_adamw_mixed(void* weight, void* master, const void* gradient, void* exp_avg, void* exp_avg_sq, int64_t step,
                     double lr, double beta1, double beta2, double weight_decay, double eps, double scale) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const auto& k = kernels();
    Tensor w = tensor(weight), p = tensor(master), g = tensor(gradient), m = tensor(exp_avg), v = tensor(exp_avg_sq);
    const int width = width_of(g, "gradient");
    check(w, at::kBFloat16, w, "weight");
    check(p, at::kFloat, w, "master");
    check(g, g.scalar_type(), w, "gradient");
    check(m, at::kFloat, w, "exp_avg");
    check(v, at::kFloat, w, "exp_avg_sq");
    const double t = static_cast<double>(step);
    const llama_pro::AdamwStep s = {
        static_cast<float>(1 - lr * weight_decay),
        static_cast<float>(1 - beta1),
        static_cast<float>(beta2),
        static_cast<float>(lr / (1 - std::pow(beta1, t))),
        static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t))),
        static_cast<float>(eps),
        static_cast<float>(scale),
    };
    void* ws = w.mutable_data_ptr();
    float *ps = p.mutable_data_ptr<float>(), *ms = m.mutable_data_ptr<float>(), *vs = v.mutable_data_ptr<float>();
    const void* gs = g.const_data_ptr();
    at::parallel_for(0, w.numel(), PART, [&](int64_t begin, int64_t end) {
      k.adamw(width, ws, ps, gs, ms, vs, s, begin, end);
    });
  });
}

char* lp_squares(double* out, const void* x) {
  return guarded([&] {
    const auto& k = kernels();
    const Tensor& t = tensor(x);
    const int width = width_of(t, "squares");
    const int64_t n = t.numel(), parts = (n + PART - 1) / PART;
    std::vector<double> sums(static_cast<size_t>(parts));
    const void* data = t.const_data_ptr();
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        sums[static_cast<size_t>(i)] = k.squares(width, data, i * PART, std::min(n, (i + 1) * PART));
    });
    *out = 0;
    for (double sum : sums) *out += sum;
  });
}

char* lp_add(void* sum, const void* x) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const auto& k = kernels();
    Tensor s = tensor(sum);
    const Tensor& t = tensor(x);
    check(s, at::kFloat, s, "sum");
    check(t, at::kBFloat16, s, "added");
    float* to = s.mutable_data_ptr<float>();
    const void* from = t.const_data_ptr();
    at::parallel_for(0, s.numel(), PART, [&](int64_t begin, int64_t end) { k.add(to, from, begin, end); });
  });
}

char* lp_forget_grad(void* leaf) {
  return guarded([&] {
    Tensor t = tensor(leaf);
    TORCH_CHECK(t.defined() && t.is_leaf(), "expected a leaf");
    t.mutable_grad() = Tensor();
  });
}
