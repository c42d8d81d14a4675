// The kernels for avx2; build.rs names the instruction sets.
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif
#include <stdint.h>
#define ISA avx2
namespace {
// Tiles of so many rows and vectors stay in registers.
constexpr int ROWS = 4, COLUMNS = 1;
}  // namespace
#include "kernels.inc"
