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
const CPP: &str = "adept alglib boost armadillo blitz Eigen deal.II dlib NTL mtl";
const C: &str = "fftw gsl cblas blas lapacke nlopt petsc";
const HASKELL: &str = "Numeric.LinearAlgebra Numeric.SpecFunctions Numeric.Vector Statistics Data.Complex";

/// `\section` and its kin.
static SECTION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\\(?:part|chapter|section|subsection|subsubsection|paragraph)\b").ok());

impl AlgebraicStack {
    /// Gives the Markdown of a notebook.
    pub(super) fn judge(
        &self,
        text: &str,
        language: &str,
        path: Option<&str>,
    ) -> Result<Option<String>, Against> {
        let language = self.language.as_deref().unwrap_or(language);
        if !matches!(language, "jupyter-notebook" | "jupyter notebook") {
            return self.judge_code(text, language, path).map(|()| None);
        }
        let marks = ["\\begin{equation}", "\\begin{align}", "import sympy", "from sympy"];
        let lower = text.to_lowercase();
        import(marks.iter().any(|mark| lower.contains(mark)))?;
        if !self.notebooks_to_markdown {
            return Ok(None);
        }
        let refuse = |detail| Against { rule: "algebraic-stack/notebook", detail };
        notebook::to_markdown(text).map(Some).map_err(refuse)
    }

    fn judge_code(&self, text: &str, language: &str, path: Option<&str>) -> Verdict {
        let imports = |keywords: &[&str], names: &str| {
            names.split(' ').any(|name| keywords.iter().any(|word| text.contains(&format!("{word} {name}"))))
        };
        let includes = |names: &str| {
            let mut lines = text.lines().map(str::trim_start).filter(|line| line.starts_with('#'));
            lines.any(|line| line.contains("include") && names.split(' ').any(|name| line.contains(name)))
        };
        let begins = |with: &[char]| text.trim_start().starts_with(with);
        match language {
            "python" => {
                self.standard(text, self.max_digits)?;
                data(begins(&['{']))?;
                import(imports(&["import", "from"], PYTHON))
            }
            "c++" | "cpp" => {
                self.standard(text, self.max_digits.min(0.1))?;
                import(includes(CPP))
            }
            "c" => {
                self.standard(text, self.max_digits)?;
                import(includes(C))
            }
            "haskell" => {
                self.standard(text, self.max_digits)?;
                let lines = || text.lines().filter(|line| line.trim_start().starts_with("import"));
                import(lines().any(|line| HASKELL.split(' ').any(|name| line.contains(name))))
            }
            "julia" => {
                data(begins(&['%', '{', '[', ';']))?;
                let (tests, lines) = (text.matches("@test").count(), text.lines().count());
                let tested = ratio(tests, lines) >= 0.1;
                demand(text.len() < 100_000 || tested, "algebraic-stack/julia-tests", || {
                    format!("{} bytes, of {lines} lines {tests} tests", text.len())
                })?;
                digits(text, self.max_digits)
            }
            "r" => {
                self.standard(text, self.max_digits)?;
                let fork =
                    path.is_some_and(|path| path.rsplit('/').next().is_some_and(|n| n.starts_with("._")));
                let xml = text.chars().take(100).collect::<String>().contains("<?xml");
                data(fork || xml || begins(&['{']))
            }
            "maple" => {
                size(text, 100_000)?;
                digits(text, self.max_digits)
            }
            "tex" => {
                size(text, 10_000_000)?;
                let place = path.unwrap_or_default();
                let manual = place.contains("latex/") || text.contains("gnuplot");
                demand(!manual, "algebraic-stack/tex-manual", || "in latex/, or of gnuplot".to_owned())?;
                let sections = SECTION.as_ref().is_some_and(|section| section.is_match(text));
                demand(sections, "algebraic-stack/tex-sections", || "no sectioning command".to_owned())
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

fn import(there: bool) -> Verdict {
    demand(there, "algebraic-stack/import", || "imports no mathematical library".to_owned())
}
