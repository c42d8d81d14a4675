//! What of a file is comment, and what of a page is text: counted by reading the file once, without a parser.

/// Characters of HTML outside tags, scripts, styles and comments, runs of white space as one.
pub(super) fn html_text_chars(text: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    let mut in_space = true;
    while let Some(c) = rest.chars().next() {
        if c == '<' {
            let name = &rest.as_bytes()[1..];
            let is = |tag: &[u8]| name.get(..tag.len()).is_some_and(|name| name.eq_ignore_ascii_case(tag));
            let end = match () {
                () if is(b"!--") => "-->",
                () if is(b"script") => "</script>",
                () if is(b"style") => "</style>",
                () => ">",
            };
            rest = &rest[after(rest, end)..];
            continue;
        }
        let space = c.is_whitespace();
        count += usize::from(!(space && in_space));
        in_space = space;
        rest = &rest[c.len_utf8()..];
    }
    count
}

/// Where the first `mark`, in any case of its ASCII letters, ends; the end of the text where there is none.
fn after(text: &str, mark: &str) -> usize {
    let (bytes, mark) = (text.as_bytes(), mark.as_bytes());
    let mut places = memchr::memchr_iter(mark[0], bytes);
    let is_there =
        |&at: &usize| bytes.get(at..at + mark.len()).is_some_and(|found| found.eq_ignore_ascii_case(mark));
    places.find(is_there).map_or(text.len(), |at| at + mark.len())
}

/// Characters in comments, and in Python in strings that are statements by themselves (docstrings); `None` for a
/// language whose comments are not known here.
pub(super) fn comment_chars(text: &str, language: &str) -> Option<usize> {
    match language {
        "python" => Some(python_comments(text)),
        "c" | "c++" | "java" | "javascript" | "typescript" | "go" | "rust" | "c#" | "php" | "scala"
        | "kotlin" => Some(slash_comments(text)),
        _ => None,
    }
}

/// Comments from `#` to the end of the line, and strings of three quotes that begin a line outside brackets.
fn python_comments(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut count = 0;
    let (mut at, mut depth) = (0, 0usize);
    // Nothing but white space since the line began.
    let mut begins = true;
    while at < bytes.len() {
        // A letter before the quotes of a string belongs to it.
        let prefixed = begins
            && matches!(bytes[at], b'r' | b'R' | b'u' | b'U')
            && matches!(bytes.get(at + 1), Some(b'"' | b'\''));
        let open = at + usize::from(prefixed);
        match bytes[open] {
            b'#' => {
                let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length);
                count += text[at..end].chars().count();
                at = end;
            }
            quote @ (b'"' | b'\'') => {
                let three = bytes[open..].starts_with(&[quote; 3]);
                let end = string_end(bytes, open, quote, three);
                if three && begins && depth == 0 {
                    count += text[at..end].chars().count();
                }
                (at, begins) = (end, false);
            }
            b'\\' if bytes.get(at + 1) == Some(&b'\n') => (at, begins) = (at + 2, false),
            byte => {
                match byte {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                begins = byte == b'\n' || begins && byte.is_ascii_whitespace();
                at += 1;
            }
        }
    }
    count
}

/// Where a string that opens at `at` ends; one of single quotes ends with its line at the latest.
fn string_end(bytes: &[u8], at: usize, quote: u8, three: bool) -> usize {
    let mark = if three { 3 } else { 1 };
    let mut end = at + mark;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' => end += 2,
            b'\n' if !three => return end,
            byte if byte == quote && (!three || bytes[end..].starts_with(&[quote; 3])) => return end + mark,
            _ => end += 1,
        }
    }
    bytes.len()
}

fn slash_comments(text: &str) -> usize {
    let mut count = 0;
    let mut block = false;
    for line in text.split('\n') {
        let mut rest = line;
        loop {
            if block {
                let end = rest.find("*/");
                let to = end.map_or(rest.len(), |at| at + 2);
                count += rest[..to].chars().count();
                rest = &rest[to..];
                block = end.is_none();
                if block {
                    break;
                }
            }
            match (outside_strings(rest, "//"), outside_strings(rest, "/*")) {
                (Some(line), block) if block.is_none_or(|block| line < block) => {
                    count += rest[line..].chars().count();
                    break;
                }
                (_, Some(at)) => {
                    count += 2;
                    rest = &rest[at + 2..];
                    block = true;
                }
                _ => break,
            }
        }
    }
    count
}

/// Where `mark` first stands in a line outside strings of one or two quotes.
fn outside_strings(line: &str, mark: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(mark.as_bytes()) => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts are those of Python's `ast` (strings that are statements) and `tokenize` (comments), but for the two
    /// files that Python does not parse.
    #[test]
    fn docstrings_are_told_from_other_strings() {
        for (text, comments) in [
            ("\"\"\"Doc.\"\"\"\nx = 1\n", 10),
            ("def f():\n    '''Doc\n    two'''\n    return 1\n", 17),
            // What closes a string that was assigned opens no docstring.
            ("x = \"\"\"\none\n\"\"\"\ny = 2\nz = 3\n", 0),
            ("f(\n    \"\"\"no doc\"\"\",\n)\n", 0),
            ("x = '#'  # é\n", 3),
            ("x = \"a\\\"#\"\n", 0),
            ("r\"\"\"raw \\d\"\"\"\n", 13),
            ("x = \"\"\"a ' # b\"\"\" # c\n", 3),
            ("x = \\\n    '''no doc'''\n", 0),
            ("x = 'it\n# one\n", 5),
            ("'''open", 7),
            ("'''open \\", 9),
        ] {
            assert_eq!(comment_chars(text, "python"), Some(comments), "{text}");
        }
    }

    #[test]
    fn tags_are_in_any_case() {
        for (text, visible) in [
            ("<p>ab</p>", 2),
            ("<SCRIPT>var x = 1 < 2;</SCRIPT>ab", 2),
            ("<Style>p > a { }</STYLE >ab</style>cd", 2),
            ("<script>never closed ab", 0),
            ("a<!-- b > c -->d", 2),
            ("a é\n\n <br> b", 5),
            ("<", 0),
            ("é<é>é", 2),
        ] {
            assert_eq!(html_text_chars(text), visible, "{text}");
        }
    }
}
