//! The programs of HumanEval and MBPP, split into the part that a model wrote and the part that decides; and pass@k.
//!
//! HumanEval: Chen et al., arXiv 2107.03374; its check is `test`, then `check(entry_point)`. MBPP: Austin et al.,
//! arXiv 2108.07732; its check is a list of assertions.

use crate::program::{Judge, Limits, Program, Tests};

/// A problem of HumanEval with a completion of its prompt.
///
/// The prompt's own helper functions are the tests' too, so that a completion cannot replace them.
pub fn human_eval(prompt: &str, completion: &str, test: &str, entry_point: &str) -> Program {
    let tests = Tests {
        context: prompt.to_owned(),
        source: format!("{test}\ncheck({entry_point})\n"),
        provided: vec![entry_point.to_owned()],
    };
    Program { code: format!("{prompt}{completion}\n"), judge: Judge::Tests(tests), limits: Limits::default() }
}

/// A problem of MBPP with an answer to it.
///
/// `reference` is the data set's own answer. The names that it defines are what the assertions are about, so they come
/// from the answer even where Python has a builtin of that name. `setup` is the data set's setup code, mostly empty.
pub fn mbpp(answer: &str, setup: &str, assertions: &[String], reference: &str) -> Program {
    let tests = Tests {
        context: String::new(),
        source: format!("{setup}\n{}\n", assertions.join("\n")),
        provided: defined(reference),
    };
    Program { code: format!("{answer}\n"), judge: Judge::Tests(tests), limits: Limits::default() }
}

/// The functions and classes at the top level of a Python source.
fn defined(source: &str) -> Vec<String> {
    let lines = source.lines().filter_map(|line| {
        let rest = line.strip_prefix("def ").or_else(|| line.strip_prefix("class "))?;
        let name: String =
            rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    });
    lines.collect()
}

/// The unbiased estimate of the chance that one of `k` samples passes, from `passed` of `samples`: equation 1 of
/// arXiv 2107.03374, `1 - C(n - c, k) / C(n, k)`, as a product that cannot overflow.
///
/// `None` where `k` is 0 or more than there are samples, or more passed than there are.
pub fn pass_at_k(samples: u64, passed: u64, k: u64) -> Option<f64> {
    if k == 0 || k > samples || passed > samples {
        return None;
    }
    let failed = samples - passed;
    if failed < k {
        return Some(1.0);
    }
    // C(n - c, k) / C(n, k) is the product of (n - c - i) / (n - i), over whichever of the two sides is shorter.
    let (from, steps) = if k <= passed { (failed, k) } else { (samples - k, passed) };
    let ratio: f64 = (0..steps).map(|i| (from - i) as f64 / (samples - i) as f64).product();
    Some(1.0 - ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By counting every choice of `k` samples.
    fn counted(samples: u32, passed: u32, k: u32) -> f64 {
        let chosen = (0_u32..1 << samples).filter(|set| set.count_ones() == k);
        let (all, hit) = chosen.fold((0_u32, 0_u32), |(all, hit), set| {
            (all + 1, hit + u32::from(set & ((1 << passed) - 1) != 0))
        });
        f64::from(hit) / f64::from(all)
    }

    #[test]
    fn pass_at_k_is_the_share_of_choices_with_a_pass() {
        for samples in 1..=10 {
            for passed in 0..=samples {
                for k in 1..=samples {
                    let found = pass_at_k(samples.into(), passed.into(), k.into()).unwrap();
                    let expected = counted(samples, passed, k);
                    assert!((found - expected).abs() < 1e-12, "{samples} {passed} {k}: {found} {expected}");
                }
            }
        }
        assert_eq!(pass_at_k(5, 1, 6), None);
        assert_eq!(pass_at_k(5, 6, 1), None);
        assert_eq!(pass_at_k(5, 1, 0), None);
        // Too large for factorials: with k = 1 it is the share that passed, whatever the size.
        assert!((pass_at_k(1_000_000, 250_000, 1).unwrap() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn names_of_the_reference_are_found() {
        let source = "import math\r\nclass Pair(object):\n    def __init__(self): pass\ndef  chain (arr):\n  def inner(): pass\n";
        assert_eq!(defined(source), ["Pair", "chain"]);
    }
}
