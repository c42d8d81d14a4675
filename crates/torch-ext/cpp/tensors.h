// What the units of the shim share: no C++ exception crosses into Rust.
#pragma once
#include <ATen/ATen.h>

#include <cstring>
#include <exception>

#include "kernels.h"

template <typename F>
char* guarded(F&& body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception& e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

// The kernels of this processor; an error where it has none.
inline const llama_pro::Kernels& kernels() {
  const auto* found = llama_pro::kernels();
  TORCH_CHECK(found, "this processor has no kernels");
  return *found;
}

inline const at::Tensor& tensor(const void* pointer) { return *static_cast<const at::Tensor*>(pointer); }
// Null is no tensor.
inline at::Tensor maybe(const void* pointer) { return pointer ? tensor(pointer) : at::Tensor(); }
inline void give(void** out, at::Tensor t) { *out = new at::Tensor(std::move(t)); }
