//! A pattern of Python's `re` in the words of the engine here. Where they differ:
//!
//! - `$` matches before a line end that closes the text, too, and `\Z` only at the very end;
//! - `\s` has the four separators from U+001C on; `\w` is letters and numbers of every kind, without combining marks;
//!   `\b` follows it;
//! - in a class, `[`, `&&`, `--` and `~~` are characters;
//! - `\<`, `{` that opens no count, `{,3}`, octal numbers and `(?#…)` mean what they mean in Python.

use std::iter::Peekable;
use std::str::Chars;

const SPACE: &str = r"\s\x{1c}-\x{1f}";
const WORD: &str = r"\p{L}\p{N}_";
const SPACE_ASCII: &str = r" \t\n\r\x{b}\x{c}";
const WORD_ASCII: &str = "A-Za-z0-9_";

/// Flags that are in force in a group.
#[derive(Clone, Copy, Default)]
struct Flags {
    ascii: bool,
    lines: bool,
    verbose: bool,
}

struct Writer<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    /// The flags of each open group, the innermost last.
    flags: Vec<Flags>,
    /// Where the flags of the whole pattern end.
    head: usize,
}

/// Writes a pattern down anew.
///
/// # Errors
/// What is wrong with it or has no counterpart, in one line.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let rest = pattern.chars().peekable();
    let mut writer = Writer { rest, out: String::new(), flags: vec![Flags::default()], head: 0 };
    while let Some(c) = writer.rest.next() {
        writer.one(c)?;
    }
    Ok(writer.out)
}

impl Writer<'_> {
    fn flags(&self) -> Flags {
        self.flags.last().copied().unwrap_or_default()
    }

    fn one(&mut self, c: char) -> Result<(), String> {
        match c {
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' => self.group()?,
            ')' => {
                if self.flags.len() == 1 {
                    return Err("unbalanced parenthesis".to_owned());
                }
                self.flags.pop();
                self.out.push(')');
            }
            '*' | '+' | '?' => {
                self.out.push(c);
                self.after_count()?;
            }
            '{' => self.count()?,
            '$' if self.flags().lines => self.out.push('$'),
            '$' => self.out.push_str(r"(?=\n?\z)"),
            '^' | '.' | '|' => self.out.push(c),
            c if self.flags().verbose && " \t\n\r\x0b\x0c".contains(c) => {}
            '#' if self.flags().verbose => while self.rest.next().is_some_and(|c| c != '\n') {},
            c => self.literal(c),
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            self.out.push_str(&format!(r"\x{{{:x}}}", c as u32));
        } else {
            self.out.push(c);
        }
    }

    /// `{2,3}`, `{,3}`, `{2,}`; anything else is a brace.
    fn count(&mut self) -> Result<(), String> {
        let Some((text, after)) = ahead(&self.rest) else {
            self.literal('{');
            return Ok(());
        };
        self.rest = after;
        let from_zero = if text.starts_with(',') { "0" } else { "" };
        self.out.push_str(&format!("{{{from_zero}{text}}}"));
        self.after_count()
    }

    /// A count may be lazy or possessive, and may not be counted itself.
    fn after_count(&mut self) -> Result<(), String> {
        self.out.extend(self.rest.next_if(|c| "?+".contains(*c)));
        let mut next = self.rest.clone();
        match next.next() {
            Some('*' | '+' | '?') => Err("multiple repeat".to_owned()),
            Some('{') if ahead(&next).is_some() => Err("multiple repeat".to_owned()),
            _ => Ok(()),
        }
    }

    /// What follows an opening parenthesis.
    fn group(&mut self) -> Result<(), String> {
        let mut inner = self.flags();
        if self.rest.next_if_eq(&'?').is_none() {
            self.out.push('(');
            self.flags.push(inner);
            return Ok(());
        }
        let unknown = || "a kind of group that is not known here".to_owned();
        match self.rest.next().ok_or("unexpected end of pattern")? {
            c @ (':' | '=' | '!' | '>') => self.out.push_str(&format!("(?{c}")),
            '<' => {
                let c = self.rest.next().filter(|c| "=!".contains(*c)).ok_or_else(unknown)?;
                self.out.push_str(&format!("(?<{c}"));
            }
            '#' => {
                return match self.rest.any(|c| c == ')') {
                    true => Ok(()),
                    false => Err("missing ), unterminated comment".to_owned()),
                };
            }
            'P' => match self.rest.next() {
                Some('<') => {
                    let name = self.until('>')?;
                    self.out.push_str(&format!("(?P<{name}>"));
                }
                Some('=') => {
                    let name = self.until(')')?;
                    self.out.push_str(&format!("(?P={name})"));
                    return Ok(());
                }
                _ => return Err(unknown()),
            },
            '(' => {
                let number = self.until(')')?;
                if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(format!("a condition on the group {number}: only numbers are known here"));
                }
                self.out.push_str(&format!("(?({number})"));
            }
            c => {
                let whole = self.flag_group(c, &mut inner)?;
                if whole {
                    // Flags of the whole pattern: Python has them at its beginning only.
                    if let Some(first) = self.flags.last_mut() {
                        *first = inner;
                    }
                    return Ok(());
                }
            }
        }
        self.flags.push(inner);
        Ok(())
    }

    /// `(?i)` and `(?i-s:`: whether it was the first kind.
    fn flag_group(&mut self, first: char, inner: &mut Flags) -> Result<bool, String> {
        let (mut on, mut off) = (String::new(), String::new());
        let mut negative = false;
        let mut next = Some(first);
        let whole = loop {
            match next {
                Some('-') if !negative => negative = true,
                Some('a') if !negative => inner.ascii = true,
                Some('u') if !negative => inner.ascii = false,
                Some('m') => inner.lines = !negative,
                Some('x') => inner.verbose = !negative,
                Some('i' | 's') => {}
                Some(')') if !negative => break true,
                Some(':') => break false,
                Some(c) => return Err(format!("unknown flag {c}")),
                None => return Err("missing ), unterminated group".to_owned()),
            }
            if let Some(c @ ('i' | 's' | 'm')) = next {
                if negative { &mut off } else { &mut on }.push(c);
            }
            next = self.rest.next();
        };
        if whole && (self.flags.len() > 1 || self.out.len() > self.head) {
            return Err("global flags not at the start of the expression".to_owned());
        }
        let off = if off.is_empty() { off } else { format!("-{off}") };
        let end = if whole { ')' } else { ':' };
        if !(whole && on.is_empty()) {
            self.out.push_str(&format!("(?{on}{off}{end}"));
        }
        if whole {
            self.head = self.out.len();
        }
        Ok(whole)
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut name = String::new();
        for c in self.rest.by_ref() {
            if c == end {
                return Ok(name);
            }
            name.push(c);
        }
        Err(format!("missing {end}, unterminated name"))
    }

    fn escape(&mut self) -> Result<(), String> {
        let ascii = self.flags().ascii;
        let word = if ascii { WORD_ASCII } else { WORD };
        let c = *self.rest.peek().ok_or(r"bad escape (end of pattern)")?;
        if let Some(set) = set(c, ascii) {
            self.rest.next();
            self.out.push_str(&format!("[{set}]"));
            return Ok(());
        }
        match c {
            'A' => self.out.push_str(r"\A"),
            'Z' => self.out.push_str(r"\z"),
            'b' => {
                self.out.push_str(&format!("(?:(?<=[{word}])(?![{word}])|(?<![{word}])(?=[{word}]))"));
            }
            // Not in an empty text, before Python 3.14.
            'B' => self
                .out
                .push_str(&format!(r"(?!\A\z)(?:(?<=[{word}])(?=[{word}])|(?<![{word}])(?![{word}]))")),
            '1'..='9' => return self.number(),
            _ => {
                let c = self.character()?;
                self.literal(c);
                return Ok(());
            }
        }
        self.rest.next();
        Ok(())
    }

    /// `\1` to `\99` are groups, three octal digits a character.
    fn number(&mut self) -> Result<(), String> {
        let digits: String = self.rest.clone().take(3).take_while(char::is_ascii_digit).collect();
        if digits.len() == 3 && digits.bytes().all(|b| b < b'8') {
            let c = self.character()?;
            self.literal(c);
            return Ok(());
        }
        let digits = &digits[..digits.len().min(2)];
        for _ in 0..digits.len() {
            self.rest.next();
        }
        self.out.push_str(&format!(r"(?:\{digits})"));
        Ok(())
    }

    /// The character that an escape names, in a class or outside; the backslash is read.
    fn character(&mut self) -> Result<char, String> {
        let c = self.rest.next().ok_or("bad escape (end of pattern)")?;
        let hex = |writer: &mut Self, count: usize| {
            let digits: String = writer.rest.by_ref().take(count).collect();
            let number = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == count);
            number.and_then(char::from_u32).ok_or_else(|| format!(r"bad escape \{c}{digits}"))
        };
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => hex(self, 2)?,
            'u' => hex(self, 4)?,
            'U' => hex(self, 8)?,
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(|c| c.is_digit(8)) else { break };
                    value = value * 8 + digit.to_digit(8).unwrap_or(0);
                }
                char::from_u32(value).filter(|_| value <= 0o377).ok_or(r"octal escape out of range")?
            }
            c if c.is_ascii_alphanumeric() => return Err(format!(r"bad escape \{c}")),
            c => c,
        })
    }

    fn class(&mut self) -> Result<(), String> {
        let open = || "unterminated character set".to_owned();
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or_else(open)?;
            if c == ']' && !first {
                break;
            }
            first = false;
            let Some(low) = self.member(c)? else { continue };
            let mut ahead = self.rest.clone();
            let ranges = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
            self.literal(low);
            if ranges {
                self.rest.next();
                let c = self.rest.next().ok_or_else(open)?;
                let high = self.member(c)?.filter(|high| *high >= low);
                let high = high.ok_or_else(|| format!("bad character range from {low:?}"))?;
                self.out.push('-');
                self.literal(high);
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// One member of a class that begins with this character; `None` where it was a set, which is written already.
    fn member(&mut self, c: char) -> Result<Option<char>, String> {
        if c != '\\' {
            return Ok(Some(c));
        }
        let ascii = self.flags().ascii;
        let next = self.rest.peek().copied().unwrap_or(' ');
        if let Some(set) = set(next, ascii) {
            self.rest.next();
            self.out.push_str(&if set.starts_with('^') { format!("[{set}]") } else { set });
            return Ok(None);
        }
        if next == 'b' {
            self.rest.next();
            return Ok(Some('\x08'));
        }
        self.character().map(Some)
    }
}

/// The inside of a count behind its opening brace, and what follows it; `None` where the brace opens none.
fn ahead<'p>(rest: &Peekable<Chars<'p>>) -> Option<(String, Peekable<Chars<'p>>)> {
    let mut rest = rest.clone();
    let mut text = String::new();
    while let Some(c) = rest.next_if(|c| c.is_ascii_digit() || *c == ',') {
        text.push(c);
    }
    let is_count = rest.next() == Some('}') && !text.is_empty() && text.matches(',').count() < 2;
    is_count.then_some((text, rest))
}

/// The inside of the class that `\d`, `\s` or `\w` stands for, or one of their opposites.
fn set(name: char, ascii: bool) -> Option<String> {
    let inside = match (name.to_ascii_lowercase(), ascii) {
        ('d', false) => r"\p{Nd}",
        ('d', true) => "0-9",
        ('s', false) => SPACE,
        ('s', true) => SPACE_ASCII,
        ('w', false) => WORD,
        ('w', true) => WORD_ASCII,
        _ => return None,
    };
    let opposite = if name.is_ascii_uppercase() { "^" } else { "" };
    Some(format!("{opposite}{inside}"))
}
