//! Just enough Markdown to get plain paragraphs out of README files and doc comments.
//!
//! Code (fenced or indented), tables, HTML, images, link targets and reference definitions go; wrapped lines
//! become one; headings and list items are kept apart so that the caller can judge them.

/// A piece of prose.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The text of a heading.
    Heading(String),
    /// A paragraph on one line.
    Paragraph(String),
    /// A list item on one line, with its mark: `- ` or `1. `.
    Item(String),
}

/// The prose of a Markdown text, in order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line);
    }
    reader.flush();
    reader.blocks
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    /// The lines of the current paragraph or item, joined.
    pending: String,
    pending_is_item: bool,
    /// Inside a list, indented lines are text.
    in_list: bool,
    /// The mark that closes the open code fence.
    fence: Option<String>,
    in_html_comment: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        if let Some(fence) = &self.fence {
            if trimmed.starts_with(fence.as_str()) && trimmed.trim_matches(['`', '~']).is_empty() {
                self.fence = None;
            }
            return;
        }
        if self.in_html_comment || trimmed.starts_with("<!--") {
            self.in_html_comment = !trimmed.contains("-->");
            return self.flush();
        }
        if let Some(fence) = opening_fence(trimmed) {
            self.flush();
            self.fence = Some(fence);
            return;
        }
        if trimmed.is_empty() {
            return self.flush();
        }
        let indented = line.starts_with("    ") || line.starts_with('\t');
        if indented && self.pending.is_empty() && !self.in_list {
            return;
        }
        if is_underline(trimmed) {
            let title = std::mem::take(&mut self.pending);
            return self.heading(&title);
        }
        if let Some(title) = trimmed.strip_prefix('#') {
            self.flush();
            return self.heading(title.trim_matches(['#', ' ']));
        }
        if trimmed.starts_with('|') || is_definition(trimmed) {
            return self.flush();
        }
        if let Some((mark, rest)) = list_mark(trimmed) {
            self.flush();
            self.in_list = true;
            self.pending_is_item = true;
            self.pending = format!("{mark} {rest}");
            return;
        }
        if self.pending.is_empty() && !indented {
            self.in_list = false;
        }
        if !self.pending.is_empty() {
            self.pending.push(' ');
        }
        self.pending.push_str(trimmed.trim_start_matches("> "));
    }

    fn heading(&mut self, title: &str) {
        self.in_list = false;
        self.pending_is_item = false;
        let title = squeeze(&inline(title));
        if !title.is_empty() {
            self.blocks.push(Block::Heading(title));
        }
    }

    fn flush(&mut self) {
        let text = squeeze(&inline(&std::mem::take(&mut self.pending)));
        let item = std::mem::take(&mut self.pending_is_item);
        if !text.is_empty() {
            self.blocks.push(if item { Block::Item(text) } else { Block::Paragraph(text) });
        }
    }
}

fn opening_fence(trimmed: &str) -> Option<String> {
    ['`', '~'].into_iter().find_map(|mark| {
        let n = trimmed.chars().take_while(|c| *c == mark).count();
        // ```text``` on one line is inline code.
        (n >= 3 && !trimmed[n..].contains(mark)).then(|| mark.to_string().repeat(n))
    })
}

/// `=====` or `-----`: underlines a heading or rules a line.
fn is_underline(trimmed: &str) -> bool {
    ['=', '-', '*', '_'].iter().any(|mark| trimmed.len() >= 3 && trimmed.chars().all(|c| c == *mark))
}

/// `[name]: target`
fn is_definition(trimmed: &str) -> bool {
    trimmed.starts_with('[') && trimmed.split_once("]:").is_some_and(|(name, _)| !name.contains("]("))
}

/// The mark of a list item in one spelling, and its text.
fn list_mark(trimmed: &str) -> Option<(&str, &str)> {
    for bullet in ["- ", "* ", "+ "] {
        if let Some(rest) = trimmed.strip_prefix(bullet) {
            return Some(("-", rest.trim_start()));
        }
    }
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let rest = trimmed[digits..].strip_prefix(". ")?;
    (1..=2).contains(&digits).then(|| (&trimmed[..=digits], rest.trim_start()))
}

/// One space for every run of white space.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Inline markup to plain text: link texts without targets, no images, no tags, no bold marks.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (plain, used) = match c {
            '`' => code_span(rest),
            '!' if rest[1..].starts_with('[') => match link(&rest[1..]) {
                Some((_, used)) => (String::new(), used + 1),
                None => ("!".to_owned(), 1),
            },
            '[' => match link(rest) {
                Some((inner, used)) => (inline(inner), used),
                None => ("[".to_owned(), 1),
            },
            '<' => match tag(rest) {
                Some((plain, used)) => (plain.to_owned(), used),
                None => ("<".to_owned(), 1),
            },
            '*' if rest.starts_with("**") => (String::new(), 2),
            '\\' => match rest[1..].chars().next().filter(char::is_ascii_punctuation) {
                Some(escaped) => (escaped.to_string(), 1 + escaped.len_utf8()),
                None => ("\\".to_owned(), 1),
            },
            other => (other.to_string(), other.len_utf8()),
        };
        out.push_str(&plain);
        rest = &rest[used..];
    }
    out
}

/// A code span with its marks, or a lone mark.
fn code_span(text: &str) -> (String, usize) {
    let n = text.bytes().take_while(|byte| *byte == b'`').count();
    let mark = &text[..n];
    match text[n..].find(mark) {
        Some(at) => (text[..n + at + n].to_owned(), n + at + n),
        None => (mark.to_owned(), n),
    }
}

/// `[text](target)`, `[text][name]` or `[text]` at the start: the text, and the length of it all.
fn link(text: &str) -> Option<(&str, usize)> {
    let close = matching(text, '[', ']')?;
    let inner = &text[1..close];
    let after = &text[close + 1..];
    let target = match after.chars().next() {
        Some('(') => matching(after, '(', ')').map_or(0, |end| end + 1),
        Some('[') => matching(after, '[', ']').map_or(0, |end| end + 1),
        _ => 0,
    };
    Some((inner, close + 1 + target))
}

/// The index of the bracket that closes the one at the start; code spans are passed over.
fn matching(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0usize;
    let mut in_code = false;
    for (at, c) in text.char_indices() {
        if c == '`' {
            in_code = !in_code;
        } else if !in_code && c == open {
            depth += 1;
        } else if !in_code && c == close {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// An HTML tag, which vanishes, or `<https://…>`, which keeps its address.
fn tag(text: &str) -> Option<(&str, usize)> {
    let end = text.find('>')?;
    let inner = &text[1..end];
    if inner.starts_with("http://") || inner.starts_with("https://") {
        return Some((inner, end + 1));
    }
    let name = inner.strip_prefix('/').unwrap_or(inner);
    let looks_like_tag = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !inner.contains('<');
    looks_like_tag.then_some(("", end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paragraph(text: &str) -> Block {
        Block::Paragraph(text.to_owned())
    }

    #[test]
    fn wrapped_lines_join_and_code_goes() {
        let text = "One\ntwo.\n\n```rust\nlet x = 1;\n\n# hidden\n```\nThree.\n\n    indented code\n\n~~~~\n```\n~~~~\nFour";
        assert_eq!(blocks(text), [paragraph("One two."), paragraph("Three."), paragraph("Four")]);
    }

    #[test]
    fn headings_lists_and_rules() {
        let text = "Title\n=====\n## Sub ##\n* one\n  more\n+ two\n\n    still two\n1. three\n\n---\n| a | b |\nEnd.\n";
        let item = |text: &str| Block::Item(text.to_owned());
        assert_eq!(
            blocks(text),
            [
                Block::Heading("Title".to_owned()),
                Block::Heading("Sub".to_owned()),
                item("- one more"),
                item("- two"),
                paragraph("still two"),
                item("1. three"),
                paragraph("End."),
            ]
        );
    }

    #[test]
    fn inline_markup_becomes_plain() {
        for (markdown, plain) in [
            (
                "see [the `Foo` type](https://x.y/(z)) and [`Bar`][b] or [Baz].",
                "see the `Foo` type and `Bar` or Baz.",
            ),
            ("[![Build](https://a/b.svg)](https://a) ok", "ok"),
            ("a <b>bold</b> **word**, <https://x.y>", "a bold word, https://x.y"),
            ("`Vec<T>` and `[u8]` stay", "`Vec<T>` and `[u8]` stay"),
            ("1 \\* 2 < 3 [open", "1 * 2 < 3 [open"),
            ("unclosed `code and ``x`y``", "unclosed `code and ``x`y``"),
        ] {
            assert_eq!(squeeze(&inline(markdown)), plain);
        }
    }

    #[test]
    fn definitions_and_html_comments_go() {
        let text = "<!-- a\nb -->\nText\n[a]: https://x\n<p align=\"center\">\n\nMore";
        assert_eq!(blocks(text), [paragraph("Text"), paragraph("More")]);
    }
}
