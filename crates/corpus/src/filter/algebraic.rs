//! AlgebraicStack: mathematical code by language, as math-lm's `process_stack.py` selects it from The Stack.
//!
//! Two of its slips are not copied: a missing comma that joins "haskell" and "python", and another that joins two
//! includes of C.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::stats::{Stats, ratio};
use super::{Against, Verdict, demand, notebook};

/// Selects by the document's language; documents of other languages are dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AlgebraicStack {
    /// The language of all documents. Default: what the source says of each.
    pub language: Option<String>,
    /// Bytes of a file at most; 1,048,575.
    pub max_bytes: usize,
    /// Share of digits among the characters that are no white space at most; 0.5. In C++ 0.1.
    pub max_digits: f64,
    /// Notebooks become Markdown, without images, tracebacks and scripts; yes. Others than those of format 4 are dropped.
    pub notebooks_to_markdown: bool,
}

impl Default for AlgebraicStack {
    fn default() -> Self {
        Self { language: None, max_bytes: 1_048_575, max_digits: 0.5, notebooks_to_markdown: true }
    }
}

/// Modules of Python that are mathematics.
const PYTHON: &str = "numpy scipy sympy sage numba numexpr theano statsmodels networkx mpmath pymc3 astropy cupy \
                      pycuda cvxpy pyomo jax";

/// A rule's expression; none only if it were no expression, which the tests would find.
type Expression = LazyLock<Option<Regex>>;

/// The headers of C++ begin with these names, as upstream's lines `#include <boost`; no letter goes on with the name.
static CPP: Expression = LazyLock::new(|| {
    includes("adept|alglib(?:internal|misc)?|boost|armadillo|blitz|Eigen|deal\\.II|dlib|NTL|mtl")
});
static C: Expression = LazyLock::new(|| includes("r?fftw|gsl|cblas|blas|lapacke|nlopt|petsc"));
static HASKELL: Expression = LazyLock::new(|| {
    let names = "Numeric\\.LinearAlgebra|Numeric\\.SpecFunctions|Numeric\\.Vector|Statistics|Data\\.Complex";
    Regex::new(&format!(r"import\s+(?:qualified\s+)?(?:{names})\b")).ok()
});
/// R files that are requirements of another program.
static REQUIREMENT: Expression = LazyLock::new(|| Regex::new(r"Requirement\s+\{\s+Identifier").ok());
static SECTION: Expression = LazyLock::new(|| {
    Regex::new(r"\\(?:(?:chapter|section|subsection|subsubsection)\*?|(?:sub)?paragraph)\{").ok()
});

fn includes(names: &str) -> Option<Regex> {
    Regex::new(&format!(r#"(?m)^[ \t]*#[ \t]*include[ \t]*[<"](?:{names})(?:[^A-Za-z]|$)"#)).ok()
}

fn is_in(expression: &Expression, text: &str) -> bool {
    expression.as_ref().is_some_and(|expression| expression.is_match(text))
}

impl AlgebraicStack {
    /// The Markdown of a notebook, which is what all other rules see; none for anything else.
    pub(super) fn convert(&self, text: &str, language: &str) -> Result<Option<String>, Against> {
        if !(self.is_notebook(language) && self.notebooks_to_markdown) {
            return Ok(None);
        }
        of_mathematics(text)?;
        let refuse = |detail| Against { rule: "algebraic-stack/notebook", detail };
        notebook::to_markdown(text.trim_start_matches('\u{feff}')).map(Some).map_err(refuse)
    }

    fn is_notebook(&self, language: &str) -> bool {
        matches!(self.language.as_deref().unwrap_or(language), "jupyter-notebook" | "jupyter notebook")
    }

    /// Judges all but notebooks that have been converted, which have passed.
    pub(super) fn judge(&self, text: &str, language: &str, path: Option<&str>) -> Verdict {
        match (self.is_notebook(language), self.notebooks_to_markdown) {
            (true, true) => Ok(()),
            (true, false) => of_mathematics(text),
            (false, _) => self.judge_code(text, self.language.as_deref().unwrap_or(language), path),
        }
    }

    fn judge_code(&self, text: &str, language: &str, path: Option<&str>) -> Verdict {
        let imports = |keywords: &[&str], names: &str| {
            names.split(' ').any(|name| keywords.iter().any(|word| text.contains(&format!("{word} {name}"))))
        };
        match language {
            "python" => {
                self.standard(text, self.max_digits)?;
                data(text.trim_start().starts_with('{'))?;
                import(imports(&["import", "from"], PYTHON))
            }
            "c++" | "cpp" => {
                self.standard(text, self.max_digits.min(0.1))?;
                import(is_in(&CPP, text))
            }
            "c" => {
                self.standard(text, self.max_digits)?;
                import(is_in(&C, text))
            }
            "haskell" => {
                self.standard(text, self.max_digits)?;
                import(is_in(&HASKELL, text))
            }
            // Others than Julia's share the extension, JSON lines among them.
            "julia" => {
                data(text.starts_with(['%', '{', '[']))?;
                if text.len() < 100_000 {
                    return Ok(());
                }
                let (tests, lines) = (text.matches("@test").count(), text.matches('\n').count() + 1);
                demand(tests > 0 && ratio(tests, lines) >= 0.1, "algebraic-stack/julia-tests", || {
                    format!("{} bytes, of {lines} lines {tests} tests", text.len())
                })?;
                digits(text, self.max_digits)
            }
            "r" => {
                self.standard(text, self.max_digits)?;
                let other = text.contains("/* Resource fork") || is_in(&REQUIREMENT, text);
                data(other || text.starts_with("<?xml") || text.starts_with('{'))
            }
            "maple" => {
                size(text, 100_000)?;
                digits(text, self.max_digits)?;
                data(text.starts_with("<?xml"))
            }
            "tex" => {
                size(text, 10_000_000)?;
                digits(text, self.max_digits)?;
                let place = path.unwrap_or_default();
                // A style is no text. Where no path is known, none is held against it.
                let is_tex =
                    place.is_empty() || place.rsplit('/').next().is_some_and(|n| n.ends_with(".tex"));
                demand(is_tex, "algebraic-stack/tex-extension", || format!("{place}, expected .tex"))?;
                let manual = place.contains("latex/") || text.contains("gnuplot");
                demand(!manual, "algebraic-stack/tex-manual", || "in latex/, or of gnuplot".to_owned())?;
                demand(is_in(&SECTION, text), "algebraic-stack/tex-sections", || {
                    "no sectioning command".to_owned()
                })
            }
            "lean" | "isabelle" | "agda" | "idris" | "gap" | "fortran" | "coq" | "matlab" | "mathematica" => {
                self.standard(text, self.max_digits)
            }
            other => demand(false, "algebraic-stack/language", || {
                if other.is_empty() { "no language known".to_owned() } else { format!("language {other}") }
            }),
        }
    }

    fn standard(&self, text: &str, max_digits: f64) -> Verdict {
        size(text, self.max_bytes)?;
        digits(text, max_digits)
    }
}

fn size(text: &str, most: usize) -> Verdict {
    demand(text.len() <= most, "algebraic-stack/max-bytes", || {
        format!("{} bytes, at most {most}", text.len())
    })
}

fn digits(text: &str, most: f64) -> Verdict {
    let stats = Stats::of(text);
    let share = ratio(stats.digits, stats.visible);
    demand(share <= most, "algebraic-stack/max-digits", || format!("digits {share:.3}, at most {most}"))
}

fn data(is_data: bool) -> Verdict {
    demand(!is_data, "algebraic-stack/data", || "begins as data, not as code".to_owned())
}

/// A notebook that has an equation or SymPy.
fn of_mathematics(notebook: &str) -> Verdict {
    let marks = ["\\begin{equation}", "\\begin{align}", "import sympy", "from sympy"];
    let lower = notebook.to_lowercase();
    import(marks.iter().any(|mark| lower.contains(mark)))
}

fn import(there: bool) -> Verdict {
    demand(there, "algebraic-stack/import", || "imports no mathematical library".to_owned())
}
