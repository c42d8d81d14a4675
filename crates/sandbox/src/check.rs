//! The programs of HumanEval and MBPP, split into the part that a model wrote and the part that decides.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_reference_are_found() {
        let source = "import math\r\nclass Pair(object):\n    def __init__(self): pass\ndef  chain (arr):\n  def inner(): pass\n";
        assert_eq!(defined(source), ["Pair", "chain"]);
    }
}
