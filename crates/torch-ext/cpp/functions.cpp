// Operations with a backward pass of their own: what autograd would keep and compute for the plain operations is more than
// the training of a model that is mostly frozen needs. See shim.h for what each computes.
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "kernels.h"
#include "shim.h"
#include "tensors.h"

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

int width_of(const Tensor& x) {
  TORCH_CHECK(x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              "the kernels take float32 and bfloat16 on the CPU, found ", x.scalar_type(), " on ", x.device());
  return static_cast<int>(x.element_size());
}

void like(const Tensor& x, const Tensor& y, const char* name) {
  TORCH_CHECK(x.scalar_type() == y.scalar_type() && x.device() == y.device(), name, " differs in dtype or device");
}

const void* in(const Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }
void* out(Tensor& x) { return x.defined() ? x.mutable_data_ptr() : nullptr; }
float* numbers(Tensor& x) { return x.mutable_data_ptr<float>(); }
const float* numbers(const Tensor& x) { return x.const_data_ptr<float>(); }
Tensor floats(at::IntArrayRef shape) { return at::empty(shape, at::kFloat); }

// Rows that are worth a thread.
int64_t grain(int64_t size) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, size)); }

struct Norm : Function<Norm> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x_in, const Tensor& w_in,
                               const std::optional<Tensor>& r_in, double eps) {
    const auto& k = kernels();
    Tensor x = x_in.contiguous(), w = w_in.contiguous(), r, h;
    const int64_t size = x.size(-1), rows = x.numel() / std::max<int64_t>(1, size);
    const int width = width_of(x);
    TORCH_CHECK(w.dim() == 1 && w.size(0) == size, "norm: a weight of shape ", w.sizes(), " for ", x.sizes());
    like(x, w, "norm: the weight");
    if (r_in.has_value()) {
      r = r_in->contiguous();
      like(x, r, "norm: the residual");
      TORCH_CHECK(r.sizes() == x.sizes(), "norm: a residual of shape ", r.sizes(), " for ", x.sizes());
      h = at::empty_like(x);
    }
    Tensor y = at::empty_like(x), inverse = floats({rows});
    at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
      k.norm(width, in(x), in(r), in(w), out(h), out(y), numbers(inverse), begin, end, size, static_cast<float>(eps));
    });
    ctx->saved_data["residual"] = r.defined();
    ctx->save_for_backward({r.defined() ? h : x, w, inverse});
    if (!r.defined()) return {y};
    return {h, y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& k = kernels();
    const bool residual = ctx->saved_data["residual"].toBool();
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1];
    const int64_t size = x.size(-1), rows = x.numel() / size;
    Tensor dy = grads[residual ? 1 : 0].contiguous(), extra;
    if (residual) extra = grads[0].contiguous();
    Tensor dx = at::empty_like(x), dw;
    const bool learns = w.requires_grad();
    // One sum for each thread, added up in their order.
    if (learns) dw = at::zeros({at::get_num_threads(), size}, at::kFloat);
    at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
      float* sums = learns ? numbers(dw) + at::get_thread_num() * size : nullptr;
      k.norm_backward(width_of(x), in(dy), in(x), in(w), in(extra), numbers(saved[2]), out(dx), sums, begin, end, size);
    });
    if (learns) dw = dw.sum(0).to(w.scalar_type());
    return {dx, dw, residual ? dx : Tensor(), Tensor()};
  }
};

struct Swiglu : Function<Swiglu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate_in, const Tensor& up_in) {
    const auto& k = kernels();
    Tensor gate = gate_in.contiguous(), up = up_in.contiguous(), y = at::empty_like(gate);
    const int width = width_of(gate);
    like(gate, up, "swiglu: up");
    TORCH_CHECK(gate.sizes() == up.sizes(), "swiglu: gate ", gate.sizes(), " and up ", up.sizes());
    at::parallel_for(0, gate.numel(), 16384, [&](int64_t begin, int64_t end) {
      k.swiglu(width, in(gate), in(up), out(y), begin, end);
    });
    ctx->save_for_backward({gate, up});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& k = kernels();
    auto saved = ctx->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1];
    Tensor dy = grads[0].contiguous(), dgate = at::empty_like(gate), dup = at::empty_like(gate);
    at::parallel_for(0, gate.numel(), 16384, [&](int64_t begin, int64_t end) {
      k.swiglu_backward(width_of(gate), in(dy), in(gate), in(up), out(dgate), out(dup), begin, end);
    });
    return {dgate, dup};
  }
};

// The heads of x turned by the angles of their positions, or back.
void turn(const Tensor& x, Tensor& y, const Tensor& cosine, const Tensor& sine, int64_t size, float sign) {
  const auto& k = kernels();
  const int64_t rows = x.size(0) * x.size(1), period = cosine.numel() / size;
  at::parallel_for(0, rows, grain(x.size(2)), [&](int64_t begin, int64_t end) {
    k.rotate(width_of(x), in(x), out(y), in(cosine), in(sine), period, begin, end, x.size(2) / size, size, sign);
  });
}

struct Attend : Function<Attend> {
  static llama_pro::Attention call(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first,
                                   AutogradContext* ctx) {
    const int64_t size = ctx->saved_data["size"].toInt();
    return {in(q), in(k), in(v), first.const_data_ptr<int32_t>(), q.size(0), q.size(1), q.size(2) / size,
            k.size(2) / size, size, 1.0f / std::sqrt(static_cast<float>(size))};
  }

  template <typename F>
  static void tasks(int width, const llama_pro::Attention& a, F&& task) {
    const size_t bytes = kernels().attention_scratch(width, a);
    at::parallel_for(0, a.batch * a.kv_heads, 1, [&](int64_t begin, int64_t end) {
      std::unique_ptr<char[]> memory(new char[bytes]);
      char* aligned = memory.get() + (64 - reinterpret_cast<uintptr_t>(memory.get()) % 64) % 64;
      for (int64_t i = begin; i < end; ++i) task(i, aligned);
    });
  }

  static Tensor forward(AutogradContext* ctx, const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                        const Tensor& cosine_in, const Tensor& sine_in, const Tensor& first_in, int64_t heads,
                        int64_t kv_heads, int64_t size) {
    Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    Tensor cosine = cosine_in.contiguous(), sine = sine_in.contiguous();
    const int width = width_of(q);
    TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && v.sizes() == k.sizes() && size > 0 && size % 2 == 0 && kv_heads > 0 &&
                    heads % kv_heads == 0 && q.size(2) == heads * size && k.size(2) == kv_heads * size &&
                    k.size(0) == q.size(0) && k.size(1) == q.size(1),
                "attention: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes(), " for ", heads, " and ", kv_heads,
                " heads of ", size);
    const int64_t batch = q.size(0), length = q.size(1);
    TORCH_CHECK(cosine.sizes() == sine.sizes() && (cosine.numel() == length * size || cosine.numel() == q.numel() / heads),
                "attention: angles of shape ", cosine.sizes());
    for (const auto* t : {&k, &v, &cosine, &sine}) like(q, *t, "attention: an input");
    TORCH_CHECK(first_in.scalar_type() == at::kInt && first_in.device().is_cpu() && first_in.dim() == 2 &&
                    first_in.size(1) == length,
                "attention: first keys of shape ", first_in.sizes());
    Tensor first = first_in.expand({batch, length}).contiguous();
    const auto* keys = first.const_data_ptr<int32_t>();
    for (int64_t i = 0; i < batch * length; ++i)
      TORCH_CHECK(keys[i] >= 0 && keys[i] <= i % length, "attention: query ", i % length, " begins at key ", keys[i]);
    Tensor turned_q = at::empty_like(q), turned_k = at::empty_like(k), y = at::empty_like(q);
    turn(q, turned_q, cosine, sine, size, 1);
    turn(k, turned_k, cosine, sine, size, 1);
    Tensor sums = floats({batch, heads, length});
    ctx->saved_data["size"] = size;
    auto a = call(turned_q, turned_k, v, first, ctx);
    tasks(width, a, [&](int64_t task, char* memory) {
      kernels().attention(width, a, out(y), numbers(sums), task, memory);
    });
    ctx->save_for_backward({turned_q, turned_k, v, cosine, sine, first, y, sums});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &y = saved[6];
    Tensor dy = grads[0].contiguous(), dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    auto a = call(q, k, v, saved[5], ctx);
    tasks(width_of(q), a, [&](int64_t task, char* memory) {
      kernels().attention_backward(width_of(q), a, in(y), in(dy), numbers(saved[7]), out(dq), out(dk), out(dv), task,
                                   memory);
    });
    turn(dq, dq, saved[3], saved[4], a.size, -1);
    turn(dk, dk, saved[3], saved[4], a.size, -1);
    return {dq, dk, dv, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
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
  if (logits.device().is_cpu() && llama_pro::kernels() &&
      (logits.scalar_type() == at::kFloat || logits.scalar_type() == at::kBFloat16)) {
    const int width = width_of(logits);
    at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
      kernels().loss(width, out(logits), in(base), targets.const_data_ptr<int64_t>(), numbers(nats),
                     base.defined() ? numbers(kl) : nullptr, static_cast<float>(ce_weight),
                     static_cast<float>(kl_weight), gradient, begin, end, logits.size(1));
    });
    return;
  }
  const auto wide = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
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
    const auto wide = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
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

char* lp_attention(void** y, const void* q, const void* k, const void* v, const void* cosine, const void* sine,
                   const void* first, int64_t heads, int64_t kv_heads, int64_t size) {
  return guarded([&] {
    give(y, Attend::apply(tensor(q), tensor(k), tensor(v), tensor(cosine), tensor(sine), tensor(first), heads, kv_heads,
                          size));
  });
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
