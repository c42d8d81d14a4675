//! Jupyter notebooks as Markdown, as AlgebraicStack has them: math-lm's `process_jupyter_notebook`, which is nbconvert's
//! `MarkdownExporter` between two rounds of cleaning.
//!
//! Before, a cell whose outputs hold a PNG or an exception loses them all. After, links to images and the elements
//! `img`, `video`, `script` and `iframe` go. Notebooks of format 4, which is ten years old; older ones are refused.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

static TAKEN_OUT: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let all = [
        r#"!\[[^\]]*\]\(.*?(?:".*")?\)"#,
        "<img[^>]*>",
        "(?s)<video.*?</video>|<script.*?</script>|<iframe.*?</iframe>",
    ];
    all.iter().filter_map(|one| Regex::new(one).ok()).collect()
});

/// Of several forms of an output, which one is taken: nbconvert's order. The Markdown of an image is a link to a file.
const FORMS: [&str; 8] = [
    "text/html",
    "application/pdf",
    "text/latex",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/plain",
];

/// The notebook as Markdown, or why it is none.
pub(super) fn to_markdown(json: &str) -> Result<String, String> {
    let notebook: Value = serde_json::from_str(json).map_err(|error| format!("not JSON: {error}"))?;
    let Some(cells) = notebook["cells"].as_array().filter(|_| notebook["nbformat"] == 4) else {
        return Err(format!("nbformat {}, expected 4", notebook["nbformat"]));
    };
    let language = notebook["metadata"]["language_info"]["name"].as_str().unwrap_or_default();
    let mut pieces = Vec::new();
    for cell in cells {
        let source = text(&cell["source"]);
        match cell["cell_type"].as_str() {
            Some("code") => {
                pieces.push(format!("```{language}\n{source}\n```"));
                outputs(cell, &mut pieces);
            }
            Some("markdown" | "raw") => pieces.push(source),
            other => return Err(format!("a cell of type {other:?}, expected code, markdown or raw")),
        }
    }
    let mut body = pieces.join("\n\n") + "\n";
    for taken_out in &*TAKEN_OUT {
        body = taken_out.replace_all(&body, "").into_owned();
    }
    Ok(body)
}

fn outputs(cell: &Value, pieces: &mut Vec<String>) {
    let none = Vec::new();
    let outputs = cell["outputs"].as_array().unwrap_or(&none);
    let image = |output: &Value| !text(&output["data"]["image/png"]).is_empty();
    let exception = |output: &Value| output.get("ename").is_some() && output.get("traceback").is_some();
    if outputs.iter().any(|output| image(output) || exception(output)) {
        return;
    }
    for output in outputs {
        if output["output_type"] == "stream" {
            pieces.push(indented(&text(&output["text"])));
            continue;
        }
        let Some(form) = FORMS.into_iter().find(|form| output["data"].get(form).is_some()) else { continue };
        let text = text(&output["data"][form]);
        match form {
            "text/plain" => pieces.push(indented(&text)),
            "text/html" | "text/latex" | "text/markdown" => pieces.push(text),
            // A link, which would go.
            _ => {}
        }
    }
}

/// A text, or a list of its lines with their ends.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

/// A block of code of four spaces.
fn indented(text: &str) -> String {
    let line = |line: &str| if line.trim().is_empty() { String::new() } else { format!("    {line}") };
    text.trim_end_matches('\n').split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are not blank, which nbconvert puts in other numbers between cells.
    fn lines(text: &str) -> Vec<&str> {
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect()
    }

    /// `notebook.md` was made by `tests/reference/make_notebook.py` with nbconvert and math-lm's own steps.
    #[test]
    fn a_notebook_is_what_nbconvert_and_math_lm_make_of_it() {
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let read = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
        let markdown = to_markdown(&read("notebook.ipynb")).unwrap();
        assert_eq!(lines(&markdown), lines(&read("notebook.md")));
    }

    #[test]
    fn what_is_no_notebook_is_said() {
        for (text, says) in [
            ("# a text", "not JSON"),
            ("[1]", "nbformat null, expected 4"),
            (r#"{"nbformat": 3, "worksheets": []}"#, "nbformat 3, expected 4"),
            (r#"{"nbformat": 4, "cells": [{"cell_type": "x"}]}"#, "a cell of type Some(\"x\")"),
        ] {
            assert!(to_markdown(text).unwrap_err().contains(says), "{text}");
        }
    }
}
