// Causal attention with rotary embedding and a backward pass of its own: in the kernels of the CPU, and on a GPU in libtorch's
// flash attention over documents of different lengths (arXiv 2307.08691). No [T, T] mask in either. See shim.h.
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "functions.h"
#include "shim.h"

namespace {
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

void check_heads(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, int64_t kv_heads, int64_t size) {
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && v.sizes() == k.sizes() && size > 0 && size % 2 == 0 && kv_heads > 0 &&
                  heads % kv_heads == 0 && q.size(2) == heads * size && k.size(2) == kv_heads * size &&
                  k.size(0) == q.size(0) && k.size(1) == q.size(1),
              "attention: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes(), " for ", heads, " and ", kv_heads,
              " heads of ", size);
}

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
    check_heads(q, k, v, heads, kv_heads, size);
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

// Halves of each head exchanged, the second with its sign turned: x cos + turned(x) sin rotates.
Tensor turned(const Tensor& x) {
  auto halves = x.chunk(2, -1);
  return at::cat({halves[1].neg(), halves[0]}, -1);
}

struct Flash : Function<Flash> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                        const Tensor& cosine_in, const Tensor& sine_in, const Tensor& starts, int64_t longest, int64_t heads,
                        int64_t kv_heads, int64_t size, int64_t window) {
    check_heads(q_in, k_in, v_in, heads, kv_heads, size);
    const int64_t batch = q_in.size(0), length = q_in.size(1), tokens = batch * length;
    TORCH_CHECK(starts.scalar_type() == at::kInt && starts.dim() == 1 && starts.size(0) >= 2 && longest > 0 &&
                    longest <= length,
                "attention: document starts of shape ", starts.sizes(), ", the longest of ", longest);
    // [B or 1, 1, T, size] as [B or 1, T, 1, size].
    Tensor cosine = cosine_in.transpose(1, 2), sine = sine_in.transpose(1, 2);
    auto rotated = [&](const Tensor& x, int64_t n) {
      Tensor split = x.reshape({batch, length, n, size});
      return (split * cosine + turned(split) * sine).reshape({tokens, n, size});
    };
    Tensor q = rotated(q_in, heads), k = rotated(k_in, kv_heads), v = v_in.reshape({tokens, kv_heads, size}).contiguous();
    auto [y, sums, random, unused, mask] = at::_flash_attention_forward(
        q, k, v, std::optional<Tensor>(starts), std::optional<Tensor>(starts), longest, longest, 0.0, true, false,
        std::optional<double>(), left(window), right(window));
    ctx->saved_data["longest"] = longest;
    ctx->saved_data["window"] = window;
    ctx->saved_data["batch"] = batch;
    ctx->save_for_backward({q, k, v, y, sums, random, unused, starts, cosine, sine});
    return at::_unsafe_view(y, {batch, length, heads * size});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &starts = saved[7];
    const int64_t longest = ctx->saved_data["longest"].toInt(), window = ctx->saved_data["window"].toInt(),
                  batch = ctx->saved_data["batch"].toInt(), length = q.size(0) / batch;
    Tensor dy = grads[0].reshape(q.sizes()).contiguous();
    auto [dq, dk, dv] = at::_flash_attention_backward(dy, q, k, v, saved[3], saved[4], starts, starts, longest, longest, 0.0,
                                                      true, saved[5], saved[6], std::optional<double>(), left(window),
                                                      right(window));
    // The way back: the transpose of the exchange is the exchange with its sign turned.
    auto back = [&](const Tensor& d) {
      Tensor split = d.view({batch, length, d.size(1), d.size(2)});
      return (split * saved[8] - turned(split * saved[9])).reshape({batch, length, -1});
    };
    return {back(dq), back(dk), dv.reshape({batch, length, -1}), Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor(),
            Tensor(), Tensor()};
  }

 private:
  // A window of w is the token itself and the w - 1 before it; 0 is no window.
  static std::optional<int64_t> left(int64_t window) { return window ? std::optional<int64_t>(window - 1) : std::nullopt; }
  static std::optional<int64_t> right(int64_t window) { return window ? std::optional<int64_t>(0) : std::nullopt; }
};
}  // namespace

char* lp_attention(void** y, const void* q, const void* k, const void* v, const void* cosine, const void* sine,
                   const void* first, int64_t heads, int64_t kv_heads, int64_t size) {
  return guarded([&] {
    give(y, Attend::apply(tensor(q), tensor(k), tensor(v), tensor(cosine), tensor(sine), tensor(first), heads, kv_heads,
                          size));
  });
}

char* lp_flash(void** y, const void* q, const void* k, const void* v, const void* cosine, const void* sine,
               const void* starts, int64_t longest, int64_t heads, int64_t kv_heads, int64_t size, int64_t window) {
  return guarded([&] {
    give(y, Flash::apply(tensor(q), tensor(k), tensor(v), tensor(cosine), tensor(sine), tensor(starts), longest, heads,
                         kv_heads, size, window));
  });
}
