//! How many cases a property is tried on: as many as stand in the test, times `LLAMA_PRO_FUZZ`.

use proptest::prelude::ProptestConfig;

/// So many cases, or a multiple of them.
pub(crate) fn cases(n: u32) -> ProptestConfig {
    let times = std::env::var("LLAMA_PRO_FUZZ").ok().and_then(|times| times.parse().ok()).unwrap_or(1u32);
    ProptestConfig::with_cases(n.saturating_mul(times.max(1)))
}
