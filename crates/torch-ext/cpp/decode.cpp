// See decode.h. Few tokens go through own kernels (decode_kernels.cpp), since a product with few rows is as fast as its weights
// come from memory, and a call of the library per product costs as much again. Many tokens go through libtorch's
// products. Attention is always our own: it reads keys where they lie, whatever sequences share them.
#include "decode.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "decode_kernels.h"
#include "tensors.h"

namespace {
// 2: AVX-512, 1: AVX2, 0: whatever the compiler makes of vectors.
int best_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

std::atomic<int> level{-1};

const LpKernels& kernels(at::ScalarType type) {
  if (level < 0) level = best_level();
  const bool wide = type == at::kFloat;
#if defined(__x86_64__)
  if (level == 2) return wide ? lp_kernels_f32_avx512 : lp_kernels_bf16_avx512;
  if (level == 1) return wide ? lp_kernels_f32_avx2 : lp_kernels_bf16_avx2;
#endif
  return wide ? lp_kernels_f32_generic : lp_kernels_bf16_generic;
}

// Up to this many tokens our own product is faster than libtorch's (docs/generation.md has the measurement).
constexpr int64_t FEW = 16;

struct Linear {
  at::Tensor weight, bias;
};

char* at_row(const at::Tensor& t, int64_t row) {
  return static_cast<char*>(t.data_ptr()) + row * t.size(-1) * t.element_size();
}

// Several products with the same x, in one parallel region.
void few(const LpKernels& kernel, const at::Tensor& x, std::initializer_list<const Linear*> maps,
         std::vector<at::Tensor>& outs) {
  const int64_t m = x.size(0), k = x.size(1);
  at::Tensor wide = x;
  if (x.scalar_type() != at::kFloat) {
    wide = at::empty({m, k}, at::kFloat);
    kernel.widen(x.data_ptr(), wide.data_ptr<float>(), m * k);
  }
  const float* rows = wide.data_ptr<float>();
  std::vector<int64_t> first{0};
  outs.clear();
  for (const Linear* map : maps) {
    first.push_back(first.back() + map->weight.size(0));
    outs.push_back(at::empty({m, map->weight.size(0)}, x.options()));
  }
  // Ranges begin at multiples of 12, which the kernels' tiles of 2, 3 and 4 rows divide.
  const int64_t blocks = (first.back() + 11) / 12;
  at::parallel_for(0, blocks, std::max<int64_t>(1, 32768 / (12 * k)), [&](int64_t from, int64_t to) {
    from *= 12, to = std::min(to * 12, first.back());
    size_t i = 0;
    for (const Linear* map : maps) {
      const int64_t begin = std::max(from, first[i]) - first[i], end = std::min(to, first[i + 1]) - first[i];
      const at::Tensor& out = outs[i++];
      if (begin >= end) continue;
      const void* bias = map->bias.defined() ? map->bias.data_ptr() : nullptr;
      for (int64_t t = 0; t < m; t += kernel.linear_tokens)
        kernel.linear(rows + t * k, map->weight.data_ptr(), bias, at_row(out, t), std::min(m - t, kernel.linear_tokens),
                      k, begin, end, out.size(1));
    }
  });
}

void products(const LpKernels& kernel, const at::Tensor& x, std::initializer_list<const Linear*> maps,
              std::vector<at::Tensor>& outs) {
  if (x.size(0) <= FEW) return few(kernel, x, maps, outs);
  outs.clear();
  for (const Linear* map : maps) outs.push_back(at::linear(x, map->weight, map->bias));
}

at::Tensor product(const LpKernels& kernel, const at::Tensor& x, const Linear& map) {
  std::vector<at::Tensor> outs;
  products(kernel, x, {&map}, outs);
  return outs[0];
}

struct Layer {
  at::Tensor input_norm, post_norm;
  Linear q, k, v, o, gate, up, down;
  int64_t window;
  at::Tensor keys, values;  // [key heads, slots * head_dim], [key heads, slots * padded]
};

template <typename F>
void each_row(int64_t rows, int64_t width, F&& body) {
  at::parallel_for(0, rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width)), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) body(i);
  });
}

at::Tensor normed(const LpKernels& kernel, const at::Tensor& x, const at::Tensor& weight, double eps) {
  at::Tensor out = at::empty_like(x);
  each_row(x.size(0), x.size(1),
           [&](int64_t i) { kernel.norm(at_row(x, i), weight.data_ptr(), at_row(out, i), x.size(1), eps); });
  return out;
}

// Queries of one segment that are computed together: `n` rows from `first` in the list of rows.
struct Piece {
  int64_t segment, first, n;
};
}  // namespace

struct lp_decoder {
  std::vector<Layer> layers;
  at::Tensor embed, norm;
  int64_t heads, key_heads, head_dim, padded, slots;
  double eps;
  const LpKernels* kernel;
};

char* lp_decoder_new(lp_decoder** out, void** weights, size_t layers, const int64_t* windows, void* embed, void* norm,
                     int64_t heads, int64_t key_heads, int64_t head_dim, double eps, int64_t slots) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto decoder = std::make_unique<lp_decoder>();
    decoder->embed = *static_cast<at::Tensor*>(embed);
    decoder->norm = static_cast<at::Tensor*>(norm)->contiguous();
    const auto type = decoder->embed.scalar_type();
    TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, "the decoder computes in float32 and bfloat16");
    TORCH_CHECK(decoder->embed.is_cpu() && head_dim % 2 == 0 && head_dim <= 512 && heads % key_heads == 0,
                "the decoder has no kernel for ", heads, " heads of ", head_dim);
    decoder->kernel = &kernels(type);
    decoder->heads = heads, decoder->key_heads = key_heads, decoder->head_dim = head_dim;
    decoder->padded = (head_dim + 15) / 16 * 16, decoder->eps = eps;
    decoder->slots = slots = (slots + LP_PAGE - 1) / LP_PAGE * LP_PAGE;
    for (size_t i = 0; i < layers; ++i) {
      void** at_layer = weights + 16 * i;
      auto tensor = [&](int j) {
        return at_layer[j] ? static_cast<at::Tensor*>(at_layer[j])->detach().contiguous() : at::Tensor();
      };
      auto linear = [&](int j) { return Linear{tensor(j), tensor(j + 1)}; };
      Layer layer{tensor(0), tensor(9), linear(1), linear(3), linear(5), linear(7),
                  linear(10), linear(12), linear(14), windows[i], {}, {}};
      const int64_t width = decoder->embed.size(1), inner = layer.gate.weight.size(0);
      const int64_t q = heads * head_dim, kv = key_heads * head_dim;
      // The kernels walk raw memory by these sizes.
      auto check = [&](const at::Tensor& t, at::IntArrayRef sizes) {
        TORCH_CHECK(t.defined() && t.is_cpu() && t.scalar_type() == type && t.sizes() == sizes, "layer ", i,
                    ": a weight is not ", sizes, " in the dtype of the embedding");
      };
      auto check_map = [&](const Linear& map, int64_t out, int64_t in) {
        check(map.weight, {out, in});
        if (map.bias.defined()) check(map.bias, {out});
      };
      check(layer.input_norm, {width}), check(layer.post_norm, {width});
      check_map(layer.q, q, width), check_map(layer.k, kv, width), check_map(layer.v, kv, width);
      check_map(layer.o, width, q), check_map(layer.gate, inner, width), check_map(layer.up, inner, width);
      check_map(layer.down, width, inner);
      // Zeros, not empty: a masked slot counts 0 times its value, which must be a number.
      layer.keys = at::zeros({key_heads, slots * head_dim}, decoder->embed.options());
      layer.values = at::zeros({key_heads, slots * decoder->padded}, decoder->embed.options());
      decoder->layers.push_back(std::move(layer));
    }
    *out = decoder.release();
  });
}

void lp_decoder_free(lp_decoder* decoder) { delete decoder; }

namespace {
struct Call {
  lp_decoder& d;
  const float *cos, *sin;
  std::vector<lp_segment> segments;
  std::vector<int64_t> first_token, first_span;
  std::vector<LpSpan> spans;
  int64_t longest = 0;  // scratch for the scores of one row

  // Slot of the token at `offset` of segment `s`: new tokens lie at the end of the last span.
  int64_t slot(size_t s, int64_t offset) const {
    const LpSpan& last = spans[first_span[s] + segments[s].spans - 1];
    return last.slot + last.len - segments[s].tokens + offset;
  }

  void attention(const Layer& layer, const at::Tensor& queries, const std::vector<Piece>& pieces,
                 const std::vector<int64_t>& position, const at::Tensor& out) {
    const int64_t group = d.heads / d.key_heads, dim = d.head_dim, element = out.element_size();
    const int64_t per = std::max<int64_t>(1, 8 / group);  // rows of a segment that are met at once
    struct Item {
      int64_t segment, first, n, head;
    };
    std::vector<Item> items;
    // The longest first: what is left at the end is short.
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece)
      for (int64_t at = 0; at < piece->n; at += per)
        for (int64_t h = 0; h < d.key_heads; ++h)
          items.push_back({piece->segment, piece->first + at, std::min(per, piece->n - at), h});
    const float* q = queries.data_ptr<float>();
    char* to = static_cast<char*>(out.data_ptr());
    // Neighbouring items cost alike, so threads take every nth.
    const int64_t n = items.size(), threads = std::min<int64_t>(at::get_num_threads(), n);
    at::parallel_for(0, threads, 1, [&](int64_t from, int64_t until) {
      std::vector<float> scratch(8 * longest);
      std::vector<LpRow> rows;
      for (int64_t thread = from; thread < until; ++thread)
        for (int64_t i = thread; i < n; i += threads) {
          const Item& item = items[i];
          rows.clear();
          for (int64_t r = item.first; r < item.first + item.n; ++r)
            for (int64_t h = item.head * group; h < (item.head + 1) * group; ++h)
              rows.push_back({q + (r * d.heads + h) * dim, to + (r * d.heads + h) * dim * element, position[r]});
          const LpHead head{static_cast<const char*>(layer.keys.data_ptr()) + item.head * d.slots * dim * element,
                            static_cast<const char*>(layer.values.data_ptr()) + item.head * d.slots * d.padded * element,
                            dim, d.padded, layer.window};
          const LpSpan* list = spans.data() + first_span[item.segment];
          for (size_t at = 0; at < rows.size(); at += 8)
            d.kernel->attend(rows.data() + at, std::min<int64_t>(8, rows.size() - at), &head, list,
                             segments[item.segment].spans, scratch.data(), longest);
        }
    });
  }

  void remember(Layer& layer, const at::Tensor& k, const at::Tensor& v) {
    const int64_t dim = d.head_dim, element = k.element_size();
    std::vector<int64_t> slots;
    for (size_t s = 0; s < segments.size(); ++s)
      for (int64_t i = 0; i < segments[s].tokens; ++i) slots.push_back(slot(s, i));
    each_row(slots.size(), k.size(1), [&](int64_t t) {
      for (int64_t h = 0; h < d.key_heads; ++h) {
        d.kernel->key(at_row(k, t) + h * dim * element,
                      static_cast<char*>(layer.keys.data_ptr()) + h * d.slots * dim * element, cos + t * dim / 2,
                      sin + t * dim / 2, dim, slots[t]);
        d.kernel->value(at_row(v, t) + h * dim * element,
                        static_cast<char*>(layer.values.data_ptr()) + (h * d.slots + slots[t]) * d.padded * element,
                        dim);
      }
    });
  }

  at::Tensor rotated(const at::Tensor& q, const std::vector<int64_t>& token) {
    at::Tensor out = at::empty({q.size(0), q.size(1)}, at::kFloat);
    const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d.head_dim)));
    each_row(q.size(0), q.size(1), [&](int64_t r) {
      d.kernel->query(at_row(q, r), out.data_ptr<float>() + r * q.size(1), cos + token[r] * d.head_dim / 2,
                      sin + token[r] * d.head_dim / 2, d.heads, d.head_dim, scale);
    });
    return out;
  }

  // All layers. Beyond the last layer's keys and values only the wanted rows are needed.
  at::Tensor run(const at::Tensor& ids, const std::vector<int64_t>& wanted) {
    const LpKernels& kernel = *d.kernel;
    at::Tensor x = at::index_select(d.embed, 0, ids);
    std::vector<int64_t> token, position;
    std::vector<Piece> pieces;
    auto rows_are = [&](bool all) {
      token.clear(), position.clear(), pieces.clear();
      size_t next = 0;
      for (size_t s = 0; s < segments.size(); ++s) {
        Piece piece{static_cast<int64_t>(s), static_cast<int64_t>(token.size()), 0};
        for (int64_t i = 0; i < segments[s].tokens; ++i) {
          const int64_t t = first_token[s] + i;
          if (!all && (next == wanted.size() || wanted[next] != t)) continue;
          next += !all;
          token.push_back(t), position.push_back(segments[s].start + i), ++piece.n;
        }
        if (piece.n) pieces.push_back(piece);
      }
    };
    rows_are(true);
    std::vector<at::Tensor> outs;
    for (size_t l = 0; l < d.layers.size(); ++l) {
      Layer& layer = d.layers[l];
      at::Tensor h = normed(kernel, x, layer.input_norm, d.eps), q;
      const bool last = l + 1 == d.layers.size() && static_cast<int64_t>(wanted.size()) < x.size(0);
      if (last) {
        products(kernel, h, {&layer.k, &layer.v}, outs);
        remember(layer, outs[0], outs[1]);
        rows_are(false);
        at::Tensor rows = at::tensor(wanted, at::kLong);
        x = at::index_select(x, 0, rows);
        if (wanted.empty()) break;
        q = product(kernel, at::index_select(h, 0, rows), layer.q);
      } else {
        products(kernel, h, {&layer.q, &layer.k, &layer.v}, outs);
        remember(layer, outs[1], outs[2]);
        q = outs[0];
      }
      at::Tensor mixed = at::empty_like(q);
      attention(layer, rotated(q, token), pieces, position, mixed);
      at::Tensor y = product(kernel, mixed, layer.o);
      each_row(x.size(0), x.size(1), [&](int64_t i) { kernel.add(at_row(x, i), at_row(y, i), x.size(1)); });
      h = normed(kernel, x, layer.post_norm, d.eps);
      products(kernel, h, {&layer.gate, &layer.up}, outs);
      at::Tensor g = outs[0], u = outs[1];
      each_row(g.size(0), g.size(1), [&](int64_t i) { kernel.gate(at_row(g, i), at_row(u, i), g.size(1)); });
      y = product(kernel, g, layer.down);
      each_row(x.size(0), x.size(1), [&](int64_t i) { kernel.add(at_row(x, i), at_row(y, i), x.size(1)); });
    }
    return normed(kernel, x, d.norm, d.eps);
  }
};
}  // namespace

char* lp_decoder_forward(void** out, lp_decoder* decoder, const int64_t* ids, const float* cos, const float* sin,
                         const lp_segment* segments, size_t n_segments, const int64_t* spans,
                         const int64_t* wanted, size_t n_wanted) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    Call call{*decoder, cos, sin, {segments, segments + n_segments}, {}, {}, {}};
    int64_t tokens = 0;
    for (const lp_segment& segment : call.segments) {
      call.first_token.push_back(tokens);
      call.first_span.push_back(call.spans.size());
      tokens += segment.tokens;
      int64_t length = 0, scratch = 0;
      for (int64_t i = 0; i < segment.spans; ++i, spans += 2) {
        TORCH_CHECK(spans[0] % LP_PAGE == 0 && spans[0] >= 0 && spans[1] >= 0 &&
                        spans[0] + spans[1] <= decoder->slots,
                    "a span of ", spans[1], " tokens at slot ", spans[0], " of ", decoder->slots);
        call.spans.push_back({spans[0], spans[1]});
        length += spans[1];
        scratch += (spans[1] + LP_PAGE - 1) / LP_PAGE * LP_PAGE;
      }
      TORCH_CHECK(segment.tokens > 0 && segment.spans > 0 && segment.start + segment.tokens == length &&
                      call.spans.back().len >= segment.tokens,
                  "a segment whose tokens are not the end of its last span");
      call.longest = std::max(call.longest, scratch);
    }
    for (size_t i = 0; i < n_wanted; ++i)
      TORCH_CHECK(wanted[i] >= 0 && wanted[i] < tokens && (i == 0 || wanted[i] > wanted[i - 1]),
                  "wanted places must ascend");
    at::Tensor ids_n = at::from_blob(const_cast<int64_t*>(ids), {tokens}, at::kLong).clone();
    *out = new at::Tensor(call.run(ids_n, {wanted, wanted + n_wanted}));
  });
}

int lp_kernel_level(int most) {
  level = std::min(most, best_level());
  return level;
}

char* lp_decode_linear(void** out, void* x, void* w) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::Tensor rows = static_cast<at::Tensor*>(x)->contiguous(), weight = *static_cast<at::Tensor*>(w);
    const auto type = weight.scalar_type();
    TORCH_CHECK(rows.dim() == 2 && weight.dim() == 2 && rows.size(1) == weight.size(1), "shapes do not fit");
    const bool own = weight.is_cpu() && weight.is_contiguous() && rows.scalar_type() == type &&
                     (type == at::kFloat || type == at::kBFloat16);
    *out = new at::Tensor(own ? product(kernels(type), rows, Linear{weight.detach(), {}}) : at::linear(rows, weight));
  });
}

char* lp_token_scores(void* logits, const int64_t* rows, const int64_t* tokens, size_t n, float* nats, uint8_t* best) {
  return guarded([&] {
    at::Tensor all = static_cast<at::Tensor*>(logits)->contiguous();
    const auto type = all.scalar_type();
    TORCH_CHECK(all.dim() == 2 && all.is_cpu() && (type == at::kFloat || type == at::kBFloat16), "expected logits");
    const int64_t m = all.size(0), vocabulary = all.size(1);
    for (size_t i = 0; i < n; ++i)
      TORCH_CHECK(rows[i] >= 0 && rows[i] < m && tokens[i] >= 0 && tokens[i] < vocabulary, "no such logit");
    const LpKernels& kernel = kernels(type);
    std::vector<float> largest(m);
    std::vector<int64_t> place(m);
    std::vector<double> total(m);
    each_row(m, vocabulary,
             [&](int64_t i) { kernel.row(at_row(all, i), vocabulary, &largest[i], &place[i], &total[i]); });
    for (size_t i = 0; i < n; ++i) {
      const int64_t r = rows[i];
      float logit;
      kernel.widen(at_row(all, r) + tokens[i] * all.element_size(), &logit, 1);
      nats[i] = static_cast<float>(static_cast<double>(logit) - largest[r] - std::log(total[r]));
      best[i] = place[r] == tokens[i];
    }
  });
}
