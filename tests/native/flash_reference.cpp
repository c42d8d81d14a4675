// Flash attention over documents of different lengths, written out in plain operations and registered for the CPU, so that
// what calls it (crates/torch-ext/cpp/attention.cpp) runs in a test: shapes, order of arguments, document starts, windows,
// groups of heads, what is kept for the backward pass. libtorch itself has these two operations for GPUs alone.
#include <ATen/ATen.h>
#include <torch/library.h>

namespace {
using at::Tensor;
using Starts = std::optional<Tensor>;

int calls = 0;

// Which keys [n] of a document each query [n] sees.
Tensor hidden(int64_t n, bool causal, std::optional<int64_t> left, std::optional<int64_t> right) {
  Tensor place = at::arange(n, at::kLong), ahead = place.unsqueeze(0) - place.unsqueeze(1);
  Tensor hides = causal ? ahead.gt(0) : at::zeros({n, n}, at::kBool);
  if (left) hides = hides.logical_or(ahead.lt(-*left));
  if (right) hides = hides.logical_or(ahead.gt(*right));
  return hides;
}

// Shares of attention [heads, n, n] of one document, and keys and values repeated for each query head, in float64.
struct Document {
  Tensor q, k, v, shares, sums;
  int64_t begin, n, group;
  double scale;

  Document(const Tensor& query, const Tensor& key, const Tensor& value, const int32_t* starts, int64_t i, bool causal,
           std::optional<int64_t> left, std::optional<int64_t> right)
      : begin(starts[i]), n(starts[i + 1] - starts[i]), group(query.size(1) / key.size(1)),
        scale(1.0 / std::sqrt(static_cast<double>(query.size(2)))) {
    auto heads = [&](const Tensor& x) { return x.narrow(0, begin, n).to(at::kDouble).transpose(0, 1); };
    q = heads(query);
    k = heads(key).repeat_interleave(group, 0);
    v = heads(value).repeat_interleave(group, 0);
    Tensor scores = (q.matmul(k.transpose(1, 2)) * scale).masked_fill(hidden(n, causal, left, right), -INFINITY);
    sums = scores.logsumexp(-1);
    shares = scores.softmax(-1);
  }
};

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts, int64_t longest) {
  for (const Tensor* x : {&q, &k, &v})
    TORCH_CHECK(x->dim() == 3 && x->stride(2) == 1 && x->size(0) == q.size(0) && x->size(2) == q.size(2) &&
                (x->scalar_type() == at::kBFloat16 || x->scalar_type() == at::kHalf), "flash: ", x->sizes());
  TORCH_CHECK(q.size(1) % k.size(1) == 0 && q.size(2) % 8 == 0 && q.size(2) <= 256, "flash: heads");
  TORCH_CHECK(starts.scalar_type() == at::kInt && starts.is_contiguous(), "flash: starts");
  const int32_t* s = starts.const_data_ptr<int32_t>();
  int64_t most = 0;
  for (int64_t i = 0; i + 1 < starts.size(0); ++i) most = std::max<int64_t>(most, s[i + 1] - s[i]);
  TORCH_CHECK(s[0] == 0 && s[starts.size(0) - 1] == q.size(0) && most <= longest, "flash: starts ", starts);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Starts& q_starts, const Starts& k_starts, int64_t longest_q,
    int64_t longest_k, double dropout, bool causal, bool debug, std::optional<double> scale, std::optional<int64_t> left,
    std::optional<int64_t> right, const Starts& used, const Starts& slopes) {
  TORCH_CHECK(dropout == 0 && !debug && !scale && !used && !slopes && longest_q == longest_k, "flash: options");
  check(q, k, v, *q_starts, longest_q);
  TORCH_CHECK(q_starts->equal(*k_starts), "flash: starts of queries and keys");
  ++calls;
  Tensor y = at::empty_like(q), sums = at::empty({q.size(1), q.size(0)}, at::kFloat);
  for (int64_t i = 0; i + 1 < q_starts->size(0); ++i) {
    Document d(q, k, v, q_starts->const_data_ptr<int32_t>(), i, causal, left, right);
    y.narrow(0, d.begin, d.n).copy_(d.shares.matmul(d.v).transpose(0, 1));
    sums.narrow(1, d.begin, d.n).copy_(d.sums);
  }
  // Some numbers that must come back as they are.
  return {y, sums, at::tensor({1L, 2L}), at::tensor({3L}), Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& dy, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y, const Tensor& sums,
    const Tensor& q_starts, const Tensor& k_starts, int64_t longest_q, int64_t longest_k, double dropout, bool causal,
    const Tensor& random, const Tensor& unused, std::optional<double> scale, std::optional<int64_t> left,
    std::optional<int64_t> right) {
  TORCH_CHECK(dropout == 0 && !scale && longest_q == longest_k && q_starts.equal(k_starts), "flash: options");
  TORCH_CHECK(random.equal(at::tensor({1L, 2L})) && unused.equal(at::tensor({3L})), "flash: the state of the forward pass");
  TORCH_CHECK(dy.sizes() == q.sizes() && y.sizes() == q.sizes() && dy.scalar_type() == q.scalar_type(), "flash: dy");
  check(q, k, v, q_starts, longest_q);
  ++calls;
  Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
  for (int64_t i = 0; i + 1 < q_starts.size(0); ++i) {
    Document d(q, k, v, q_starts.const_data_ptr<int32_t>(), i, causal, left, right);
    TORCH_CHECK(at::allclose(sums.narrow(1, d.begin, d.n).to(at::kDouble), d.sums, 1e-4, 1e-4), "flash: sums");
    Tensor g = dy.narrow(0, d.begin, d.n).to(at::kDouble).transpose(0, 1);
    Tensor dp = g.matmul(d.v.transpose(1, 2));
    Tensor ds = d.shares * (dp - (dp * d.shares).sum(-1, true)) * d.scale;
    auto joined = [&](const Tensor& x) { return x.view({-1, d.group, d.n, q.size(2)}).sum(1).transpose(0, 1); };
    dq.narrow(0, d.begin, d.n).copy_(ds.matmul(d.k).transpose(0, 1));
    dk.narrow(0, d.begin, d.n).copy_(joined(ds.transpose(1, 2).matmul(d.q)));
    dv.narrow(0, d.begin, d.n).copy_(joined(d.shares.transpose(1, 2).matmul(g)));
  }
  return {dq, dk, dv};
}
}  // namespace

extern "C" {
// Registers both for the CPU, for as long as the process lives.
void flash_reference_register(void) {
  static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
  library.impl("_flash_attention_forward", TORCH_FN(forward));
  library.impl("_flash_attention_backward", TORCH_FN(backward));
}

int flash_reference_calls(void) { return calls; }
}
