//! Exact evaluation of arithmetic with x and y: an own parser, independent of the generator.

use std::cmp::Ordering;

/// An exact fraction in lowest terms with a positive bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rational(pub(crate) i128, pub(crate) i128);

impl Rational {
    pub(crate) fn new(top: i128, bottom: i128) -> Self {
        assert_ne!(bottom, 0);
        let (mut a, mut b) = (top.unsigned_abs(), bottom.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let common = a.max(1) as i128 * bottom.signum();
        Self(top / common, bottom / common)
    }

    pub(crate) fn int(value: i128) -> Self {
        Self(value, 1)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Self::new(self.0 * other.0, self.1 * other.1)
    }

    pub(crate) fn over(self, other: Self) -> Self {
        Self::new(self.0 * other.1, self.1 * other.0)
    }

    pub(crate) fn compare(self, other: Self) -> Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }
}

/// The value of an expression such as `3x^2 - (x + 1)(x - 2) / 4`; `None` when it is not one.
pub(crate) fn evaluate(text: &str, x: Rational, y: Rational) -> Option<Rational> {
    let mut parser = Parser { rest: text.trim().as_bytes(), x, y };
    let value = parser.sum()?;
    parser.space();
    parser.rest.is_empty().then_some(value)
}

/// The value of an expression without letters.
pub(crate) fn number(text: &str) -> Option<Rational> {
    if text.contains(['x', 'y']) {
        return None;
    }
    evaluate(text, Rational::int(0), Rational::int(0))
}

struct Parser<'a> {
    rest: &'a [u8],
    x: Rational,
    y: Rational,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn sum(&mut self) -> Option<Rational> {
        let mut value = self.product()?;
        loop {
            if self.take(b'+') {
                value = value.plus(self.product()?);
            } else if self.take(b'-') {
                value = value.plus(self.product()?.times(Rational::int(-1)));
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<Rational> {
        let mut value = self.signed()?;
        loop {
            if self.take(b'*') {
                value = value.times(self.signed()?);
            } else if self.take(b'/') {
                let divisor = self.signed()?;
                if divisor.0 == 0 {
                    return None;
                }
                value = value.over(divisor);
            } else if matches!(self.rest.first(), Some(b'(' | b'x' | b'y')) {
                value = value.times(self.power()?);
            } else {
                return Some(value);
            }
        }
    }

    fn signed(&mut self) -> Option<Rational> {
        if self.take(b'-') { Some(self.signed()?.times(Rational::int(-1))) } else { self.power() }
    }

    fn power(&mut self) -> Option<Rational> {
        let base = self.atom()?;
        if !self.take(b'^') {
            return Some(base);
        }
        let Rational(exponent, 1) = self.atom()? else { return None };
        Some((0..exponent).fold(Rational::int(1), |value, _| value.times(base)))
    }

    fn atom(&mut self) -> Option<Rational> {
        if self.take(b'(') {
            let value = self.sum()?;
            return self.take(b')').then_some(value);
        }
        if self.take(b'x') {
            return Some(self.x);
        }
        if self.take(b'y') {
            return Some(self.y);
        }
        let end = self.rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        let (whole, part) = std::str::from_utf8(digits)
            .ok()?
            .split_once('.')
            .unwrap_or_else(|| (std::str::from_utf8(digits).unwrap_or_default(), ""));
        let value: i128 = format!("{whole}{part}").parse().ok()?;
        Some(Rational::new(value, 10i128.pow(part.len() as u32)))
    }
}

/// The runs of a text that are arithmetic: words of digits, operators, brackets, x and y, and `=`. A comma,
/// colon, question mark or full stop ends a run.
pub(crate) fn runs(text: &str) -> Vec<String> {
    let mut runs = vec![String::new()];
    for word in text.split_whitespace() {
        let bare = word.trim_end_matches([',', ':', '.', ';', '?']);
        let math =
            !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit() || b"+-*/^().=xy".contains(&b));
        match runs.last_mut() {
            Some(run) if math => {
                run.push_str(bare);
                run.push(' ');
            }
            _ => {}
        }
        if !math || bare.len() < word.len() {
            runs.push(String::new());
        }
    }
    runs.retain(|run| !run.trim().is_empty());
    runs
}

/// The whole numbers of a text, in order, with their signs.
pub(crate) fn integers(text: &str) -> Vec<i128> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut before = ' ';
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            if current.is_empty() && before == '-' {
                current.push('-');
            }
            current.push(c);
        } else if !current.is_empty() {
            found.push(current.parse().unwrap());
            current.clear();
        }
        before = c;
    }
    found
}

#[test]
fn the_evaluator_knows_its_rules() {
    for (text, x, value) in [
        ("2 + 3 * 4", 0, (14, 1)),
        ("-3^2 + (-3)^2", 0, (0, 1)),
        ("3x^2 - 4x + 1/2", 2, (9, 2)),
        ("(x + 1)(x - 2) / 4", 5, (9, 2)),
        ("12.25 - 0.5", 0, (47, 4)),
        ("(1/2) / (3/4)", 0, (2, 3)),
    ] {
        assert_eq!(
            evaluate(text, Rational::int(x), Rational::int(0)),
            Some(Rational(value.0, value.1)),
            "{text}"
        );
    }
    assert_eq!(evaluate("2 +", Rational::int(0), Rational::int(0)), None);
    assert_eq!(runs("So x = 8 / 2 = 4. Add: 5 + 8 = 13, write 3"), ["x = 8 / 2 = 4 ", "5 + 8 = 13 ", "3 "]);
}
