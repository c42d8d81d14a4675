//! How numbers, fractions and polynomials are written.

use std::fmt;

/// A fraction in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fraction {
    pub(super) top: i64,
    pub(super) bottom: i64,
}

impl Fraction {
    /// `bottom` is not 0.
    pub(super) fn new(top: i64, bottom: i64) -> Self {
        let common = gcd(top, bottom).max(1) * bottom.signum();
        Self { top: top / common, bottom: bottom / common }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self::new(self.top * other.bottom + other.top * self.bottom, self.bottom * other.bottom)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self { top: -other.top, ..other })
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bottom == 1 { write!(f, "{}", self.top) } else { write!(f, "{}/{}", self.top, self.bottom) }
    }
}

/// Euclid's algorithm; not negative.
pub(super) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// A polynomial in x; the coefficient of x^i stands at i.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Polynomial(pub(super) Vec<i64>);

impl Polynomial {
    pub(super) fn at(&self, x: i64) -> i64 {
        self.0.iter().rev().fold(0, |sum, c| sum * x + c)
    }

    pub(super) fn derivative(&self) -> Self {
        Self(self.0.iter().enumerate().skip(1).map(|(i, c)| c * i as i64).collect())
    }

    /// The terms that are not 0, highest power first: (coefficient, power).
    pub(super) fn terms(&self) -> Vec<(i64, usize)> {
        self.0.iter().enumerate().rev().filter(|(_, c)| **c != 0).map(|(i, c)| (*c, i)).collect()
    }

    /// The numbers that are added up at x: `3 * 2^2 - 5 * 2 + 1`.
    pub(super) fn with_number(&self, x: i64) -> String {
        let number = if x < 0 { format!("({x})") } else { x.to_string() };
        let terms = self.terms().into_iter().map(|(c, power)| {
            let factor = match power {
                0 => String::new(),
                1 => number.clone(),
                _ => format!("{number}^{power}"),
            };
            let size = c.abs();
            let text = match (size, power) {
                (_, 0) => size.to_string(),
                (1, _) => factor,
                _ => format!("{size} * {factor}"),
            };
            (c < 0, text)
        });
        join(terms)
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.terms().into_iter().map(|(c, power)| (c < 0, term(c.abs(), power)))))
    }
}

/// `c x^power` for a positive c.
pub(super) fn term(c: i64, power: usize) -> String {
    let factor = match power {
        0 => return c.to_string(),
        1 => "x".to_owned(),
        _ => format!("x^{power}"),
    };
    if c == 1 { factor } else { format!("{c}{factor}") }
}

/// `a - b + c` from (negative, size) pairs; `0` from none.
fn join(terms: impl Iterator<Item = (bool, String)>) -> String {
    let mut out = String::new();
    for (negative, text) in terms {
        out.push_str(match (out.is_empty(), negative) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        });
        out.push_str(&text);
    }
    if out.is_empty() { "0".to_owned() } else { out }
}

/// ` + 5` or ` - 5`.
pub(super) fn signed(value: i64) -> String {
    if value < 0 { format!("- {}", -value) } else { format!("+ {value}") }
}

/// A number in brackets when it is negative, so that it can stand after an operator.
pub(super) fn operand(value: i64) -> String {
    if value < 0 { format!("({value})") } else { value.to_string() }
}

/// `12.34` from hundredths.
pub(super) fn hundredths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", value.abs() / 100, value.abs() % 100)
}
