//! Numbers and JSON values as people read them.

use serde_json::Value;

/// Four significant digits, with thousands set apart; very large and very small ones with a power of ten.
pub(super) fn short(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    if !x.is_finite() {
        return x.to_string();
    }
    // Rounding first: 9999.96 has five digits before the point once rounded.
    let power = format!("{x:.3e}").split_once('e').and_then(|(_, p)| p.parse::<i32>().ok()).unwrap_or(0);
    match power {
        ..-3 | 12.. => trim(&format!("{x:.3e}")),
        -3..3 => trim(&format!("{x:.*}", (3 - power).unsigned_abs() as usize)),
        _ => grouped(&format!("{x:.0}")),
    }
}

/// A perplexity with the same number of decimals down a column, unless it is out of all bounds.
pub(super) fn perplexity(x: f64) -> String {
    if (0.0..1e4).contains(&x) { format!("{x:.3}") } else { short(x) }
}

/// Whole numbers with thousands set apart.
pub(super) fn whole(x: u64) -> String {
    grouped(&x.to_string())
}

/// The label of a tick, with as many decimals as the distance between ticks needs.
pub(super) fn tick(x: f64, distance: f64) -> String {
    let x = if x.abs() < distance / 2.0 { 0.0 } else { x };
    let power = distance.log10().floor();
    if x != 0.0 && (power < -3.0 || x.abs() >= 1e7) {
        return trim(&format!("{x:.2e}"));
    }
    let decimals = (-power).max(0.0) as usize;
    grouped(&format!("{x:.decimals$}"))
}

/// A time in seconds as `1 h 02 min`, `3 min 04 s` or `5.6 s`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
    }
}

/// A JSON value in one line.
pub(super) fn json(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(b) => if *b { "yes" } else { "no" }.to_owned(),
        Value::String(s) => s.clone(),
        Value::Number(n) => match n.as_u64() {
            Some(u) => whole(u),
            None => n.as_f64().map_or_else(|| n.to_string(), short),
        },
        Value::Array(a) => a.iter().map(json).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

/// No zeros at the end of the decimals.
fn trim(text: &str) -> String {
    let (number, power) = text.split_once('e').map_or((text, String::new()), |(n, p)| (n, format!("e{p}")));
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{power}")
}

/// A narrow space between groups of three digits before the point, from five digits on.
fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |d| ("-", d));
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut out = sign.to_owned();
    for (i, c) in whole.chars().enumerate() {
        if whole.len() > 4 && i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_people_read_them() {
        let shown: Vec<_> =
            [0.0, 1.0, 2.5, 0.001_234_56, 1e-4, 2e-5, 123.456, 9_999.96, 1_234_567.0, -0.5, 3e14, f64::NAN]
                .iter()
                .map(|x| short(*x))
                .collect();
        let expected = [
            "0",
            "1",
            "2.5",
            "0.001235",
            "1e-4",
            "2e-5",
            "123.5",
            "10\u{202f}000",
            "1\u{202f}234\u{202f}567",
            "-0.5",
            "3e14",
            "NaN",
        ];
        assert_eq!(shown, expected);
        assert_eq!(whole(1234), "1234");
        assert_eq!((perplexity(30.0), perplexity(123_456.7)), ("30.000".into(), "123\u{202f}457".into()));
        assert_eq!(
            (tick(0.15, 0.05), tick(2.0, 0.5), tick(-1e-17, 0.1)),
            ("0.15".into(), "2.0".into(), "0.0".into())
        );
        assert_eq!((tick(2e-5, 1e-5), tick(1e4, 5e3)), ("2e-5".into(), "10\u{202f}000".into()));
        assert_eq!(
            (duration(5.55), duration(184.0), duration(3_725.0)),
            ("5.5 s".into(), "3 min 04 s".into(), "1 h 02 min".into())
        );
        assert_eq!(json(&serde_json::json!([1, "a", true, null, 0.5])), "1, a, yes, -, 0.5");
    }
}
