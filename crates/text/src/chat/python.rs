//! What templates expect of Python: `json.dumps` and `strftime`.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// `json.dumps` with the defaults that Hugging Face gives the filter `tojson`: no escaping of HTML, keys in the order
/// they have, `", "` and `": "` between items, one item a line with `indent`.
pub(super) fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        Some(value) if !value.is_none() => Some(indent_text(&value)?),
        _ => None,
    };
    let separators = match kwargs.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            Some((pair.get_item(&Value::from(0))?.to_string(), pair.get_item(&Value::from(1))?.to_string()))
        }
        _ => None,
    };
    let default_item = if indent.is_some() { "," } else { ", " };
    let (item, key) = separators.unwrap_or((default_item.to_owned(), ": ".to_owned()));
    let flag = |name| Ok::<_, Error>(kwargs.get::<Option<bool>>(name)?.unwrap_or(false));
    let writer = JsonWriter { ascii: flag("ensure_ascii")?, sorted: flag("sort_keys")?, indent, item, key };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    writer.write(&mut out, value, 0)?;
    Ok(out)
}

fn indent_text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        // More than any template wants, and bounded.
        None => Ok(" ".repeat(usize::try_from(value.clone()).unwrap_or(0).min(64))),
    }
}

struct JsonWriter {
    ascii: bool,
    sorted: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl JsonWriter {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Map => self.map(out, value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.list(out, value, depth)?,
            other => {
                let line = format!("tojson: {other} has no JSON form");
                return Err(Error::new(ErrorKind::InvalidOperation, line));
            }
        }
        Ok(())
    }

    fn list(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut empty = true;
        out.push('[');
        for item in value.try_iter()? {
            self.next_item(out, empty, depth + 1);
            empty = false;
            self.write(out, &item, depth + 1)?;
        }
        self.close(out, empty, depth);
        out.push(']');
        Ok(())
    }

    fn map(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sorted {
            keys.sort();
        }
        let empty = keys.is_empty();
        out.push('{');
        for (i, key) in keys.iter().enumerate() {
            self.next_item(out, i == 0, depth + 1);
            match key.kind() {
                ValueKind::String => self.string(out, key.as_str().unwrap_or_default()),
                // Python makes strings of the other keys that JSON has a word for.
                ValueKind::Bool | ValueKind::Number | ValueKind::None => {
                    let mut text = String::new();
                    self.write(&mut text, key, 0)?;
                    self.string(out, &text);
                }
                other => {
                    let line = format!("tojson: a key is a {other}");
                    return Err(Error::new(ErrorKind::InvalidOperation, line));
                }
            }
            out.push_str(&self.key);
            self.write(out, &value.get_item(key)?, depth + 1)?;
        }
        self.close(out, empty, depth);
        out.push('}');
        Ok(())
    }

    fn next_item(&self, out: &mut String, first: bool, depth: usize) {
        if !first {
            out.push_str(&self.item);
        }
        self.line(out, depth);
    }

    fn close(&self, out: &mut String, empty: bool, depth: usize) {
        if !empty {
            self.line(out, depth);
        }
    }

    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                // Not escaped by ensure_ascii=False, and ASCII, so not by the other either.
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A float as Python's `repr` writes it: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{x:?}")
}

/// `datetime.strftime` for a moment in seconds since 1970, in UTC. A directive that it does not know stays as it is.
pub(super) fn strftime(seconds: i64, format: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = DAYS[(days + 4).rem_euclid(7) as usize];
    let month_name = MONTHS[(month - 1) as usize];
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let day_of_year = days - days_of(year, 1, 1) + 1;
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        let plain = directive == Some('-'); // glibc: no leading zero
        if plain {
            directive = rest.next();
        }
        let two = |n: i64| if plain { n.to_string() } else { format!("{n:02}") };
        out.push_str(&match directive {
            Some('Y') => format!("{year:04}"),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:>2}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => two(hour),
            Some('I') => two(twelve),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('j') => {
                if plain {
                    day_of_year.to_string()
                } else {
                    format!("{day_of_year:03}")
                }
            }
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{}{other}", if plain { "-" } else { "" }),
            None => "%".to_owned(),
        });
    }
    out
}

/// Days since 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's days_from_civil, the other way).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N` gave these.
        assert_eq!(strftime(0, "%A %d %B %Y %H:%M:%S %j"), "Thursday 01 January 1970 00:00:00 001");
        assert_eq!(strftime(951_827_696, "%a %-d %b %y %I:%M %p %j"), "Tue 29 Feb 00 12:34 PM 060");
        assert_eq!(strftime(4_102_444_799, "%F %T"), "2099-12-31 23:59:59");
        assert_eq!(strftime(0, "%Q %"), "%Q %");
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (x, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
            (0.0, "0.0"),
            (1e15, "1000000000000000.0"),
        ] {
            assert_eq!(float(x), text);
        }
    }
}
