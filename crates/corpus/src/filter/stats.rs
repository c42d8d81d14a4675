//! Counts of characters and lines, taken once for all rules that ask for them.

/// Numbers of code points, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) chars: usize,
    /// Lines, without an empty one after the last line feed.
    pub(super) lines: usize,
    pub(super) longest_line: usize,
    /// Code points in lines, line feeds left out.
    pub(super) line_chars: usize,
    /// Unicode letters.
    pub(super) alphabetic: usize,
    /// Unicode letters and numbers.
    pub(super) alphanumeric: usize,
    /// ASCII digits.
    pub(super) digits: usize,
    /// Everything but white space.
    pub(super) visible: usize,
}

const ALPHABETIC: u8 = 1;
const DIGIT: u8 = 2;
const SPACE: u8 = 4;

/// Classes of ASCII.
const CLASS: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        if c.is_ascii_alphabetic() {
            table[byte] = ALPHABETIC;
        } else if c.is_ascii_digit() {
            table[byte] = DIGIT;
        } else if c.is_ascii_whitespace() || c == 0x0b || (c >= 0x1c && c <= 0x1f) {
            // As Python's isspace.
            table[byte] = SPACE;
        }
        byte += 1;
    }
    table
};

impl Stats {
    pub(super) fn of(text: &str) -> Self {
        let mut stats = Self::default();
        let body = text.strip_suffix('\n').unwrap_or(text);
        for line in body.split('\n') {
            let mut chars = line.len();
            if line.is_ascii() {
                let mut counts = [0usize; 8];
                for &byte in line.as_bytes() {
                    counts[CLASS[byte as usize & 127] as usize] += 1;
                }
                stats.alphabetic += counts[ALPHABETIC as usize];
                stats.alphanumeric += counts[ALPHABETIC as usize] + counts[DIGIT as usize];
                stats.digits += counts[DIGIT as usize];
                stats.visible += chars - counts[SPACE as usize];
            } else {
                chars = 0;
                for c in line.chars() {
                    chars += 1;
                    stats.alphabetic += usize::from(c.is_alphabetic());
                    stats.alphanumeric += usize::from(c.is_alphanumeric());
                    stats.digits += usize::from(c.is_ascii_digit());
                    stats.visible += usize::from(!c.is_whitespace());
                }
            }
            stats.lines += 1;
            stats.longest_line = stats.longest_line.max(chars);
            stats.line_chars += chars;
        }
        let line_feeds = stats.lines - 1 + usize::from(body.len() < text.len());
        stats.chars = stats.line_chars + line_feeds;
        stats
    }

    pub(super) fn mean_line(&self) -> f64 {
        ratio(self.line_chars, self.lines)
    }
}

/// `part / whole`, and 0 of nothing.
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
