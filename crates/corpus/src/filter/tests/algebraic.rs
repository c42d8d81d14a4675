//! AlgebraicStack's rules by language, as math-lm's `process_stack.py` draws their borders.

use super::*;

/// The same for a file of a name, as the pipeline takes it.
fn judged_file(filters: &str, path: &str, text: &str) -> &'static str {
    let filters: Filters = toml::from_str(filters).unwrap();
    let language = crate::readers::listing::language(std::path::Path::new(path));
    let meta = Meta { language, path: Some(path.to_owned()), ..Meta::default() };
    let mut document = Document { id: "d".to_owned(), text: text.to_owned(), meta };
    filters.judge(&mut document, &Aids::default()).map_or_else(|against| against.rule, |()| "")
}

#[test]
fn algebraic_stack_goes_by_language_and_import() {
    for (language, text, expected) in [
        ("python", "import numpy as np\nx = np.zeros(3)", ""),
        ("python", "from scipy.linalg import inv", ""),
        ("python", "import os", "algebraic-stack/import"),
        ("python", "  {\"import numpy\": 1}", "algebraic-stack/data"),
        ("python", "import numpy\n1234567890123456789", "algebraic-stack/max-digits"),
        ("c++", "#include <Eigen/Dense>\nint f();", ""),
        ("c++", "#include <vector>", "algebraic-stack/import"),
        ("c++", "#include <boost/a.hpp>\n12345678", "algebraic-stack/max-digits"),
        ("c++", "  #  include \"armadillo\"\nint f();", ""),
        ("c++", "#include <adept_arrays.h>\nint f();", ""),
        ("c++", "#include <deal.II/base/point.h>\nint f();", ""),
        // Names within others are none: html has mtl, and this line speaks of boost without including it.
        ("c++", "#include <html/parser.h>\n#include <myboost/a.h>\nint f();", "algebraic-stack/import"),
        ("c++", "#include <boosted.h>\n#include <vector> // not boost\nint f();", "algebraic-stack/import"),
        ("c++", "#include <dealxII/a.h>\nint f();", "algebraic-stack/import"),
        ("c++", "// #include <boost/a.hpp>\nint f();", "algebraic-stack/import"),
        ("c", "#include <fftw3.h>\n", ""),
        ("c", "#include <rfftw.h>\n", ""),
        ("c", "#include <gsl/gsl_math.h>\n", ""),
        ("c", "#include \"cblas.h\"\n", ""),
        ("c", "#include <openblas_config.h>\n#include <glsl.h>\n", "algebraic-stack/import"),
        ("c", "#include <stdio.h>\n", "algebraic-stack/import"),
        ("haskell", "import Numeric.LinearAlgebra\n", ""),
        ("haskell", "import Data.List\n", "algebraic-stack/import"),
        ("haskell", "import  qualified  Data.Complex as C\n", ""),
        ("haskell", "import Data.List -- not Data.Complex\n", "algebraic-stack/import"),
        ("haskell", "import MyStatistics\n", "algebraic-stack/import"),
        ("julia", "f(x) = x", ""),
        ("julia", "% not julia", "algebraic-stack/data"),
        // Upstream counts digits of large files alone, and looks at the very first character.
        ("julia", "[1, 2]", "algebraic-stack/data"),
        ("julia", "x = 123456789012345", ""),
        ("julia", "; x = 1", ""),
        ("julia", " [1, 2]", ""),
        ("r", "f <- function(x) x", ""),
        ("r", "data /* Resource fork */", "algebraic-stack/data"),
        ("r", "Requirement  {\n  Identifier 3\n}", "algebraic-stack/data"),
        ("r", "<?xml version=\"1.0\"?><a/>", "algebraic-stack/data"),
        ("r", "# <?xml is no beginning", ""),
        ("r", "{\"cells\": []}", "algebraic-stack/data"),
        ("maple", "f := x -> x^2;", ""),
        ("maple", "<?xml version=\"1.0\"?><Worksheet/>", "algebraic-stack/data"),
        ("maple", "123456789012", "algebraic-stack/max-digits"),
        ("tex", "\\section{A}", ""),
        ("tex", "\\section*{A}", ""),
        ("tex", "\\subparagraph{A}", ""),
        ("tex", "\\paragraph*{A}", "algebraic-stack/tex-sections"),
        ("tex", "\\section A", "algebraic-stack/tex-sections"),
        ("tex", "\\part{A}", "algebraic-stack/tex-sections"),
        ("tex", "\\section{A} 1234567890123", "algebraic-stack/max-digits"),
        ("tex", "plain", "algebraic-stack/tex-sections"),
        ("lean", "theorem a : 1 = 1 := rfl", ""),
        ("cobol", "MOVE", "algebraic-stack/language"),
    ] {
        assert_eq!(judged("algebraic-stack = true", language, text), expected, "{language} {text}");
    }
    for (path, text, expected) in [
        ("a/b.tex", "\\section{A}", ""),
        ("a/b.sty", "\\section{A}", "algebraic-stack/tex-extension"),
        ("latex/b.tex", "\\section{A}", "algebraic-stack/tex-manual"),
        ("a/b.tex", "\\section{gnuplot}", "algebraic-stack/tex-manual"),
        ("a/._b.r", "f <- 1 + a", ""),
    ] {
        assert_eq!(judged_file("algebraic-stack = true", path, text), expected, "{path} {text}");
    }
    // From a hundred thousand bytes, tests in one line of ten, and no more digits than letters.
    let julia =
        |tests: usize, other: &str| format!("{}{}", "@test a\n".repeat(tests), other.repeat(1000 - tests));
    let line = "x".repeat(120) + "\n";
    for (tests, other, expected) in [
        (101, line.as_str(), ""),
        (99, &line, "algebraic-stack/julia-tests"),
        (101, &line.replace('x', "1"), "algebraic-stack/max-digits"),
    ] {
        assert_eq!(judged("algebraic-stack = true", "julia", &julia(tests, other)), expected, "{tests}");
    }
    let large = "x".repeat(1_048_576);
    assert_eq!(judged("algebraic-stack = true", "lean", &large), "algebraic-stack/max-bytes");
    assert_eq!(judged("algebraic-stack = true", "lean", &large[1..]), "");
}

#[test]
fn notebooks_of_mathematics_become_markdown() {
    let notebook = |source: &str| {
        serde_json::json!({ "nbformat": 4, "cells": [{ "cell_type": "markdown", "source": [source] }] })
            .to_string()
    };
    let judge = |rule: &str, text: &str| {
        let filters: Filters = toml::from_str(rule).unwrap();
        let meta = Meta { language: Some("jupyter-notebook".to_owned()), ..Meta::default() };
        let mut document = Document { id: String::new(), text: text.to_owned(), meta };
        let verdict = filters.convert(&mut document);
        let verdict = verdict.and_then(|()| filters.judge(&mut document, &Aids::default()));
        (verdict.map_or_else(|against| against.rule, |()| ""), document.text)
    };
    let on = "algebraic-stack = true";
    let equation = notebook("\\begin{Equation} x \\end{Equation} <img src='a.png'>!");
    assert_eq!(judge(on, &equation), ("", "\\begin{Equation} x \\end{Equation} !\n".to_owned()));
    assert_eq!(judge(on, &notebook("no such thing")).0, "algebraic-stack/import");
    assert_eq!(judge(on, "import sympy").0, "algebraic-stack/notebook");
    // The rules see the Markdown, not the JSON around it.
    let generated = notebook("\n\n\n\nthis file is generated \\begin{align}");
    assert_eq!(judge("algebraic-stack = true\ngenerated = true", &generated).0, "generated");
    let long = notebook(&("\\begin{align} ".to_owned() + &"ab ".repeat(9)).repeat(50).replace(" ab", "\nab"));
    assert_eq!(judge("algebraic-stack = true\nstack = true", &long).0, "");
    assert_eq!(judge("stack = true", &long).0, "stack/max-line-length");
    let off = "algebraic-stack = { notebooks-to-markdown = false }";
    assert_eq!(judge(off, &equation), ("", equation.clone()));
}
