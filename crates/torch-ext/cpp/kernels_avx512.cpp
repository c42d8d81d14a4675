// The kernels for avx512; build.rs names the instruction sets.
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif
#include <stdint.h>
#define ISA avx512
namespace {
// Tiles of so many rows and vectors stay in registers.
constexpr int ROWS = 8, COLUMNS = 2;
}  // namespace
#include "kernels.inc"
