//! How a task judges generated code.

use serde::{Deserialize, Serialize};

/// How generated code is judged.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CodeSpec {
    /// Template of the program. Besides the columns it sees `completion`, the generated text.
    pub program: String,
    /// Template of the tests, which run in another process than the program and decide; without it, a program that ends
    /// with nothing raised is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<String>,
    /// Template of what the tests need and the program must not replace, such as helper functions of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Template of the names, with blanks between, that the tests take from the program even where the context or Python
    /// itself has such a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided: Option<String>,
    /// Expression for the number that the last printed line must be, within 0.001; without it, a program that ends
    /// with nothing raised is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Wall-clock limit in seconds.
    #[serde(default = "three_seconds")]
    pub time_limit: f64,
}

impl CodeSpec {
    /// Whether the keys fit together.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.tests.is_none() && (self.context.is_some() || self.provided.is_some()) {
            return Err("code: context and provided are for tests, and there are none".to_owned());
        }
        let limit = self.time_limit;
        if !(limit > 0.0 && limit <= 3600.0) {
            return Err(format!("code.time_limit: expected seconds between 0 and 3600, found {limit}"));
        }
        Ok(())
    }
}

fn three_seconds() -> f64 {
    3.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::tasks::{Catalog, Field, Templates};

    fn render(task: &str, field: Field, doc: serde_json::Value) -> String {
        let selection = Catalog::builtin().unwrap().select([task]).unwrap();
        let templates = Templates::new(&selection.tasks[0].0).unwrap();
        templates.text(field, doc.as_object().unwrap()).unwrap()
    }

    /// The names are what a reader of the sources finds; the data set has lines that end in CR LF.
    #[test]
    fn tests_take_from_a_program_what_the_problem_asks_for() {
        let code = "import math\r\nclass Pair(object):\r\n    def total(self): pass\r\nclass Bare:\r\n    pass\r\ndef chain (arr, n):\r\n  def inner(): pass\r\ndef sum(a, b): return 1";
        let doc = json!({ "code": code, "completion": "def chain(): pass", "test_list": ["a", "b", "c"] });
        let names = render("mbpp", Field::Provided, doc.clone());
        assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["Pair", "Bare", "chain", "sum"]);
        assert_eq!(render("mbpp", Field::Program, doc.clone()), "def chain(): pass\n");
        assert_eq!(render("mbpp", Field::Tests, doc), "a\nb\nc");
        let doc = json!({ "prompt": "def f():\n", "completion": "    return 1", "test": "def check(c):\n    pass\n", "entry_point": "f" });
        assert_eq!(render("humaneval", Field::Program, doc.clone()), "def f():\n    return 1\n");
        assert_eq!(render("humaneval", Field::Tests, doc.clone()), "def check(c):\n    pass\n\ncheck(f)");
        assert_eq!(render("humaneval", Field::TestContext, doc.clone()), "def f():\n");
        assert_eq!(render("humaneval", Field::Provided, doc), "f");
    }
}
