// A forward pass of a LLaMA over a cache of keys and values, on the CPU, in float32 or bfloat16: one call for all layers.
// Errors come back as in shim.h.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct lp_decoder;

// New tokens of one sequence. All numbers count from the start of the arrays of the call.
struct lp_segment {
  int64_t tokens;      // how many
  int64_t start;       // position of the first
  int64_t spans;       // how many spans of the call's list the whole sequence lies in, these tokens included
};

// What a decoder is made of. `weights` holds 16 tensors a layer: input norm, then weight and bias of q, k, v and o, the
// norm after attention, weight and bias of gate, up and down; a null pointer is no bias. `windows` holds 0 for none.
char* lp_decoder_new(lp_decoder** out, void** weights, size_t layers, const int64_t* windows, void* embed, void* norm,
                     int64_t heads, int64_t key_heads, int64_t head_dim, double eps, int64_t slots);
void lp_decoder_free(lp_decoder* decoder);

// Runs the tokens of all segments, which lie end to end in `ids`; `cos` and `sin` are float32 [tokens, head_dim / 2].
// `spans` are pairs of slot and length. `wanted` are places among the tokens, ascending: `out` becomes their normalised
// hidden states [n_wanted, hidden].
char* lp_decoder_forward(void** out, lp_decoder* decoder, const int64_t* ids, const float* cos, const float* sin,
                         const lp_segment* segments, size_t n_segments, const int64_t* spans,
                         const int64_t* wanted, size_t n_wanted);

// Uses instructions up to this level from now on (0: any machine, 1: AVX2, 2: AVX-512) and says which it is.
int lp_kernel_level(int most);

// x [m, k] times w [n, k] transposed.
char* lp_decode_linear(void** out, void* x, void* w);

// For each pair of a row of `logits` and a token: the logarithm of its likelihood, and whether it is the likeliest.
char* lp_token_scores(void* logits, const int64_t* rows, const int64_t* tokens, size_t n, float* nats, uint8_t* best);
}
