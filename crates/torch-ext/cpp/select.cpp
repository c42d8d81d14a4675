// Which kernels this processor runs.
#include "kernels.h"

namespace llama_pro {
namespace {
thread_local bool without = false;
}

void without_kernels(bool on) { without = on; }

const Kernels* kernels() {
  if (without) return nullptr;
#if defined(__x86_64__)
  static const Kernels* chosen = [] {
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const Kernels* best = nullptr;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = &avx2::table;
    if (wide) best = &avx512::table;
    if (wide && __builtin_cpu_supports("avx512bf16")) best = &avx512bf16::table;
    return best;
  }();
  return chosen;
#else
  return nullptr;
#endif
}
}  // namespace llama_pro
