// Operations with a backward pass of their own: what autograd would keep and compute for the plain operations is more than
// the training of a model that is mostly frozen needs. See shim.h for what each computes. Where there are no kernels (a GPU,
// another dtype) operations of libtorch compute the same, and what is kept for the backward pass is the same too.
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "functions.h"
#include "shim.h"

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct Norm : Function<Norm> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x_in, const Tensor& w_in,
                               const std::optional<Tensor>& r_in, double eps) {
    Tensor x = x_in.contiguous(), w = w_in.contiguous(), r, h;
    const int64_t size = x.size(-1), rows = x.numel() / std::max<int64_t>(1, size);
    TORCH_CHECK(w.dim() == 1 && w.size(0) == size, "norm: a weight of shape ", w.sizes(), " for ", x.sizes());
    like(x, w, "norm: the weight");
    if (r_in.has_value()) {
      r = r_in->contiguous();
      like(x, r, "norm: the residual");
      TORCH_CHECK(r.sizes() == x.sizes(), "norm: a residual of shape ", r.sizes(), " for ", x.sizes());
    }
    ctx->saved_data["residual"] = r.defined();
    if (!in_kernels(x)) {
      h = r.defined() ? x + r : x;
      Tensor numbers = h.to(wide_of(h)), inverse = (numbers.square().mean(-1, true) + eps).rsqrt();
      Tensor y = w * (numbers * inverse).to(x.scalar_type());
      ctx->save_for_backward({h, w, inverse});
      if (!r.defined()) return {y};
      return {h, y};
    }
    const auto& k = kernels();
    const int width = width_of(x);
    if (r.defined()) h = at::empty_like(x);
    Tensor y = at::empty_like(x), inverse = floats({rows});
    at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
      k.norm(width, in(x), in(r), in(w), out(h), out(y), numbers(inverse), begin, end, size, static_cast<float>(eps));
    });
    ctx->save_for_backward({r.defined() ? h : x, w, inverse});
    if (!r.defined()) return {y};
    return {h, y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const bool residual = ctx->saved_data["residual"].toBool(), learns = ctx->needs_input_grad(1);
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1], &inverse = saved[2];
    const int64_t size = x.size(-1), rows = x.numel() / size;
    Tensor dy = grads[residual ? 1 : 0].contiguous(), dx, dw, extra;
    if (residual) extra = grads[0].contiguous();
    if (!in_kernels(x)) {
      Tensor normal = x.to(wide_of(x)) * inverse, g = (dy * w).to(normal.scalar_type());
      if (learns) dw = (dy * normal.to(x.scalar_type())).reshape({-1, size}).sum(0);
      dx = (inverse * (g - normal * (g * normal).mean(-1, true))).to(x.scalar_type());
      if (residual) dx.add_(extra);
      return {dx, dw, residual ? dx : Tensor(), Tensor()};
    }
    const auto& k = kernels();
    dx = at::empty_like(x);
    // One sum for each thread, added up in their order.
    if (learns) dw = at::zeros({at::get_num_threads(), size}, at::kFloat);
    at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
      float* sums = learns ? numbers(dw) + at::get_thread_num() * size : nullptr;
      k.norm_backward(width_of(x), in(dy), in(x), in(w), in(extra), numbers(inverse), out(dx), sums, begin, end, size);
    });
    if (learns) dw = dw.sum(0).to(w.scalar_type());
    return {dx, dw, residual ? dx : Tensor(), Tensor()};
  }
};

struct Swiglu : Function<Swiglu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate_in, const Tensor& up_in) {
    Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
    like(gate, up, "swiglu: up");
    TORCH_CHECK(gate.sizes() == up.sizes(), "swiglu: gate ", gate.sizes(), " and up ", up.sizes());
    ctx->save_for_backward({gate, up});
    if (!in_kernels(gate)) return at::silu(gate) * up;
    const auto& k = kernels();
    const int width = width_of(gate);
    Tensor y = at::empty_like(gate);
    at::parallel_for(0, gate.numel(), 16384, [&](int64_t begin, int64_t end) {
      k.swiglu(width, in(gate), in(up), out(y), begin, end);
    });
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1];
    Tensor dy = grads[0].contiguous();
    if (!in_kernels(gate)) return {at::silu_backward(dy * up, gate), dy * at::silu(gate)};
    const auto& k = kernels();
    Tensor dgate = at::empty_like(gate), dup = at::empty_like(gate);
    at::parallel_for(0, gate.numel(), 16384, [&](int64_t begin, int64_t end) {
      k.swiglu_backward(width_of(gate), in(dy), in(gate), in(up), out(dgate), out(dup), begin, end);
    });
    return {dgate, dup};
  }
};

struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& w, const std::optional<Tensor>& b) {
    ctx->save_for_backward({x, w});
    ctx->saved_data["bias"] = b.has_value() && b->requires_grad();
    return at::linear(x, w, b);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1];
    Tensor dy = grads[0].reshape({-1, w.size(0)}), rows = x.reshape({-1, w.size(1)}), dx, dw, db;
    if (ctx->needs_input_grad(0)) dx = at::mm(dy, w).view(x.sizes());
    const Tensor& sum = w.grad();
    if (sum.defined() && sum.scalar_type() == dy.scalar_type() && sum.scalar_type() == at::kFloat && !sum.requires_grad()) {
      // Into the gradient that is there: no second tensor of the weight's size, and no pass to add it.
      w.mutable_grad().addmm_(dy.t(), rows);
    } else {
      dw = at::mm(dy.t(), rows);
    }
    if (ctx->saved_data["bias"].toBool()) db = dy.sum(0);
    return {dx, dw, db};
  }
};

// CE and KL of a chunk of logits, which become their gradient.
void chunk_loss(Tensor& logits, const Tensor& base, const Tensor& targets, Tensor nats, Tensor kl, double ce_weight,
                double kl_weight, bool gradient) {
  if (in_kernels(logits)) {
    const int width = width_of(logits);
    at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
      kernels().loss(width, out(logits), in(base), targets.const_data_ptr<int64_t>(), numbers(nats),
                     base.defined() ? numbers(kl) : nullptr, static_cast<float>(ce_weight),
                     static_cast<float>(kl_weight), gradient, begin, end, logits.size(1));
    });
    return;
  }
  const auto wide = wide_of(logits);
  Tensor model = at::log_softmax(logits, -1, wide), at = targets.unsqueeze(1);
  nats.copy_(model.gather(1, at).squeeze(1).neg());
  Tensor d;
  if (gradient) d = model.exp().mul_(ce_weight + (base.defined() ? kl_weight : 0.0));
  if (base.defined()) {
    Tensor old = at::log_softmax(base, -1, wide), p = old.exp();
    kl.copy_((p * (old - model)).sum(-1));
    if (gradient) d.sub_(p, kl_weight);
  }
  if (gradient) {
    d.scatter_add_(1, at, at::full(at.sizes(), -ce_weight, d.options()));
    logits.copy_(d);
  }
}

struct HeadLoss : Function<HeadLoss> {
  static variable_list forward(AutogradContext* ctx, const Tensor& hidden_in, const Tensor& weight, const Tensor& targets_in,
                               const std::optional<Tensor>& base_hidden, const std::optional<Tensor>& base_weight,
                               double ce_weight, double kl_weight, int64_t chunk, bool learns_hidden, bool learns_weight) {
    Tensor hidden = hidden_in.contiguous(), targets = targets_in.contiguous();
    const bool base = base_hidden.has_value();
    TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1) && chunk > 0,
                "head: hidden states ", hidden.sizes(), " and a weight ", weight.sizes());
    const int64_t rows = hidden.size(0);
    TORCH_CHECK(targets.scalar_type() == at::kLong && targets.dim() == 1 && targets.size(0) == rows,
                "head: targets of shape ", targets.sizes(), " for ", rows, " rows");
    if (rows > 0) {
      const int64_t low = targets.min().item<int64_t>(), high = targets.max().item<int64_t>();
      TORCH_CHECK(low >= 0 && high < weight.size(0), "head: target ", low < 0 ? low : high, " outside a vocabulary of ",
                  weight.size(0));
    }
    if (base) {
      TORCH_CHECK(base_weight.has_value() && base_hidden->dim() == 2 && base_hidden->size(0) == rows &&
                      base_weight->size(0) == weight.size(0) && base_weight->scalar_type() == weight.scalar_type(),
                  "head: a base of other shape or dtype");
    }
    const bool gradient = learns_hidden || learns_weight;
    const auto wide = wide_of(hidden);
    Tensor nats = at::empty({rows}, hidden.options().dtype(wide)), kl = at::zeros_like(nats);
    Tensor dx = learns_hidden ? at::empty_like(hidden) : Tensor(), dw;
    if (learns_weight) dw = at::zeros(weight.sizes(), weight.options().dtype(wide));
    const int64_t most = std::min(chunk, std::max<int64_t>(rows, 1));
    Tensor logits = at::empty({most, weight.size(0)}, hidden.options()), old;
    if (base) old = at::empty_like(logits);
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const int64_t n = std::min(chunk, rows - begin);
      Tensor x = hidden.narrow(0, begin, n), part = logits.narrow(0, 0, n), old_part;
      at::mm_out(part, x, weight.t());
      if (base) {
        old_part = old.narrow(0, 0, n);
        at::mm_out(old_part, base_hidden->narrow(0, begin, n), base_weight->t());
      }
      chunk_loss(part, old_part, targets.narrow(0, begin, n), nats.narrow(0, begin, n), kl.narrow(0, begin, n), ce_weight,
                 kl_weight, gradient);
      if (learns_hidden) {
        Tensor to = dx.narrow(0, begin, n);
        at::mm_out(to, part, weight);
      }
      if (learns_weight) {
        if (dw.scalar_type() == part.scalar_type()) dw.addmm_(part.t(), x);
        else dw.add_(at::mm(part.t(), x));
      }
    }
    Tensor sums = at::stack({nats.sum(at::kDouble), kl.sum(at::kDouble)});
    Tensor objective = (sums * at::tensor({ce_weight, base ? kl_weight : 0.0}, sums.options())).sum();
    ctx->save_for_backward({dx, dw});
    ctx->mark_non_differentiable({sums});
    return {objective, sums};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    TORCH_CHECK(!ctx->saved_data.count("used"), "head: its gradient is scaled in place and can be taken once");
    ctx->saved_data["used"] = true;
    Tensor dx = saved[0], dw = saved[1];
    if (dx.defined()) dx.mul_(grads[0]);
    if (dw.defined()) dw.mul_(grads[0]);
    variable_list result(10);
    result[0] = dx;
    result[1] = dw;
    return result;
  }
};
}  // namespace

int lp_has_kernels(void) { return llama_pro::kernels() != nullptr; }
void lp_without_kernels(int on) { llama_pro::without_kernels(on); }

char* lp_backward(const void* y, const void* dy) {
  return guarded([&] { torch::autograd::backward({tensor(y)}, {tensor(dy)}); });
}

char* lp_norm(void** h, void** y, const void* x, const void* r, const void* w, double eps) {
  return guarded([&] {
    std::optional<Tensor> residual;
    if (r) residual = tensor(r);
    auto made = Norm::apply(tensor(x), tensor(w), residual, eps);
    if (r) give(h, made[0]);
    give(y, made[r ? 1 : 0]);
  });
}

char* lp_swiglu(void** y, const void* gate, const void* up) {
  return guarded([&] { give(y, Swiglu::apply(tensor(gate), tensor(up))); });
}

char* lp_linear(void** y, const void* x, const void* w, const void* b) {
  return guarded([&] {
    std::optional<Tensor> bias;
    if (b) bias = tensor(b);
    give(y, Linear::apply(tensor(x), tensor(w), bias));
  });
}

char* lp_head_loss(void** objective, void** sums, const void* hidden, const void* weight, const void* targets,
                   const void* base_hidden, const void* base_weight, double ce_weight, double kl_weight, int64_t chunk) {
  return guarded([&] {
    std::optional<Tensor> old, old_weight;
    if (base_hidden) old = tensor(base_hidden).detach();
    if (base_weight) old_weight = tensor(base_weight).detach();
    const bool graph = at::GradMode::is_enabled();
    auto made = HeadLoss::apply(tensor(hidden), tensor(weight), tensor(targets), old, old_weight, ce_weight, kl_weight, chunk,
                                graph && tensor(hidden).requires_grad(), graph && tensor(weight).requires_grad());
    give(objective, made[0]);
    give(sums, made[1]);
  });
}
