// Counts the bytes that tensors take on the CPU, from the reports that libtorch's allocator makes to its profiler.
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>

#include "shim.h"
#include "tensors.h"

namespace {
// Bytes since the start: of this thread alone, which is the one that runs forward and backward passes.
struct Meter : c10::MemoryReportingInfoBase {
  int64_t now = 0, peak = 0;
  void reportMemoryUsage(void*, int64_t change, size_t, size_t, c10::Device) override {
    now += change;
    peak = std::max(peak, now);
  }
  bool memoryProfilingEnabled() const override { return true; }
};
constexpr auto KIND = c10::DebugInfoKind::PROFILER_STATE;
}  // namespace

char* lp_meter_start(void) {
  return guarded([] {
    TORCH_CHECK(!c10::ThreadLocalDebugInfo::get(KIND), "something measures on this thread already");
    c10::ThreadLocalDebugInfo::_push(KIND, std::make_shared<Meter>());
  });
}

char* lp_meter_read(int64_t* now, int64_t* peak) {
  return guarded([&] {
    auto* meter = dynamic_cast<Meter*>(c10::ThreadLocalDebugInfo::get(KIND));
    TORCH_CHECK(meter, "nothing is measured on this thread");
    *now = meter->now;
    *peak = meter->peak;
  });
}

char* lp_meter_stop(void) {
  return guarded([] { c10::ThreadLocalDebugInfo::_pop(KIND); });
}
