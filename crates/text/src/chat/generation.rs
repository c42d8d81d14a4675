//! `{% generation %}`: the block by which a template says what the model itself writes.
//!
//! It is Hugging Face's extension of Jinja and no statement of minijinja. A call block has the same scope and the same
//! whitespace control, so the tags are rewritten to `{% call … %}` and `{% endcall %}` of a function that puts two
//! characters around the text; these are taken out of the result again. They are Unicode noncharacters, which no text
//! holds.

use std::ops::Range;

/// The function behind the block.
pub(super) const FUNCTION: &str = "generation_of_the_assistant";
/// Stands before the text of a block.
pub(super) const BEGIN: char = '\u{fdd0}';
/// Stands after it.
pub(super) const END: char = '\u{fdd1}';

/// The template with its generation blocks as call blocks, and whether it had any.
pub(super) fn rewrite(source: &str) -> (String, bool) {
    let (mut out, mut rest, mut any) = (String::with_capacity(source.len()), source, false);
    while let Some(at) = rest.find("{%") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match tag(rest) {
            Some((length, left, word, right)) => {
                let statement =
                    if word == "generation" { format!("call {FUNCTION}()") } else { "endcall".into() };
                out.push_str(&format!("{{%{left} {statement} {right}%}}"));
                any = true;
                rest = &rest[length..];
            }
            None => {
                out.push_str("{%");
                rest = &rest[2..];
            }
        }
    }
    out.push_str(rest);
    (out, any)
}

/// `{%- generation -%}` at the start of a text: its length and its parts.
fn tag(text: &str) -> Option<(usize, &str, &str, &str)> {
    let end = text.find("%}")?;
    let inner = &text[2..end];
    let sign = |c: Option<char>| matches!(c, Some('-' | '+'));
    let (left, inner) = if sign(inner.chars().next()) { inner.split_at(1) } else { ("", inner) };
    let cut = if sign(inner.chars().next_back()) { inner.len() - 1 } else { inner.len() };
    let (inner, right) = inner.split_at(cut);
    let word = inner.trim();
    matches!(word, "generation" | "endgeneration").then_some((end + 2, left, word, right))
}

/// The text without the marks, and the byte ranges that stood between them. `None` when they do not pair up.
pub(super) fn collect(marked: &str) -> Option<(String, Vec<Range<usize>>)> {
    let mut text = String::with_capacity(marked.len());
    let (mut ranges, mut begun) = (Vec::new(), None);
    for c in marked.chars() {
        match c {
            BEGIN if begun.is_none() => begun = Some(text.len()),
            END => ranges.push(begun.take()?..text.len()),
            BEGIN => return None,
            c => text.push(c),
        }
    }
    begun.is_none().then_some((text, ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generation_tags_are_rewritten() {
        let (out, any) = rewrite("a{%- generation -%}b{%endgeneration+%}{% if generation %}{% endif %}");
        assert!(any);
        let expected =
            format!("a{{%- call {FUNCTION}() -%}}b{{% endcall +%}}{{% if generation %}}{{% endif %}}");
        assert_eq!(out, expected);
        assert_eq!(rewrite("{% for m in messages %}"), ("{% for m in messages %}".to_owned(), false));
        assert_eq!(rewrite("{%"), ("{%".to_owned(), false));
    }

    #[test]
    fn marks_are_taken_out() {
        let marked = format!("ab{BEGIN}é{END}c{BEGIN}{END}");
        assert_eq!(collect(&marked), Some(("abéc".to_owned(), vec![2..4, 5..5])));
        assert_eq!(collect(&format!("{BEGIN}a")), None);
        assert_eq!(collect(&format!("a{END}")), None);
    }
}
