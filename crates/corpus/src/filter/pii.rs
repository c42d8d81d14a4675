//! What is private is replaced: e-mail addresses, public IPv4 addresses, keys.
//!
//! After datatrove (addresses) and bigcode-dataset (keys), with one difference: there a counter chooses the
//! replacement, so the result depends on what was processed before. Here it is a hash of the document and of what is
//! replaced, so the same text always becomes the same text, and equal addresses in a document stay equal.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// What is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Pii {
    /// E-mail addresses become one of two in example.com and example.org; yes.
    pub emails: bool,
    /// Public IPv4 addresses become one of six in the networks for documentation; yes.
    pub ips: bool,
    /// Private keys, and access keys in the formats of well-known services, become `<KEY>`; yes.
    pub keys: bool,
}

impl Default for Pii {
    fn default() -> Self {
        Self { emails: true, ips: true, keys: true }
    }
}

/// How much was replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiiCounts {
    /// E-mail addresses.
    pub emails: u64,
    /// IPv4 addresses.
    pub ips: u64,
    /// Keys.
    pub keys: u64,
}

impl PiiCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.emails += other.emails;
        self.ips += other.ips;
        self.keys += other.keys;
    }
}

const EMAILS: [&str; 2] = ["email@example.com", "firstname.lastname@example.org"];

/// RFC 5737: these belong to nobody.
const IPS: [&str; 6] =
    ["192.0.2.1", "192.0.2.42", "198.51.100.7", "198.51.100.23", "203.0.113.5", "203.0.113.80"];

const KEY: &str = "<KEY>";

/// Formats that their services document: AWS, GitHub, GitLab, Slack, Google, Stripe, npm, OpenAI and the like, and
/// PEM blocks, also as literals: on one line with `\n`, or as a string for each line.
static KEYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s:,.()\\\x22'-]*?",
        r"-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
        r"|(?:AKIA|ASIA)[0-9A-Z]{16}",
        r"|gh[pousr]_[A-Za-z0-9]{36}",
        r"|github_pat_[A-Za-z0-9_]{82}",
        r"|glpat-[A-Za-z0-9_-]{20}",
        r"|xox[abprs]-[0-9A-Za-z-]{10,72}",
        r"|AIza[0-9A-Za-z_-]{35}",
        r"|(?:sk|rk)_live_[0-9A-Za-z]{24,99}",
        r"|npm_[A-Za-z0-9]{36}",
        r"|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,120}",
    ))
    .ok()
});

impl Pii {
    pub(super) fn replace(&self, text: &mut String) -> PiiCounts {
        let mut counts = PiiCounts::default();
        let mut spans: Vec<(usize, usize, &'static str)> = Vec::new();
        let document = std::cell::LazyCell::new(|| blake3::hash(text.as_bytes()));
        let choose = |of: &str, among: &[&'static str]| {
            let hash = blake3::keyed_hash(document.as_bytes(), of.as_bytes());
            among[usize::from(hash.as_bytes()[0]) % among.len()]
        };
        if self.keys
            && let Some(keys) = &*KEYS
        {
            for found in keys.find_iter(text) {
                spans.push((found.start(), found.end(), KEY));
                counts.keys += 1;
            }
        }
        if self.emails {
            for (start, end) in emails(text.as_bytes()) {
                spans.push((start, end, choose(&text[start..end], &EMAILS)));
                counts.emails += 1;
            }
        }
        if self.ips {
            for (start, end) in public_ips(text.as_bytes()) {
                spans.push((start, end, choose(&text[start..end], &IPS)));
                counts.ips += 1;
            }
        }
        if spans.is_empty() {
            return counts;
        }
        spans.sort_unstable_by_key(|&(start, end, _)| (start, end));
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for (start, end, with) in spans {
            // Of two that overlap, the first has replaced both.
            if start >= from {
                out.push_str(&text[from..start]);
                out.push_str(with);
            }
            from = from.max(end);
        }
        out.push_str(&text[from..]);
        *text = out;
        counts
    }
}

/// `local@label.label` in ASCII: the local part of letters, digits and `.!#$%&'*+/=?^_{|}~-` (without a dot at either
/// end), labels of letters, digits and inner hyphens, the last of letters only and at least two.
fn emails(text: &[u8]) -> Vec<(usize, usize)> {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_{|}~-".contains(&byte);
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let mut found = Vec::new();
    let mut free = 0;
    for at in memchr::memchr_iter(b'@', text) {
        let before = &text[free.min(at)..at];
        let mut start = at - before.iter().rev().take(64).take_while(|&&byte| is_local(byte)).count();
        while start < at && !text[start].is_ascii_alphanumeric() {
            start += 1;
        }
        if start == at || text[at - 1] == b'.' {
            continue;
        }
        let domain = text[at + 1..].iter().take(253).take_while(|&&byte| is_label(byte)).count();
        let mut domain = &text[at + 1..at + 1 + domain];
        while let [rest @ .., b'.' | b'-'] = domain {
            domain = rest;
        }
        let labels: Vec<&[u8]> = domain.split(|&byte| byte == b'.').collect();
        let good = |label: &&[u8]| {
            !label.is_empty() && label.len() <= 63 && !label.starts_with(b"-") && !label.ends_with(b"-")
        };
        let last = labels.last().copied().unwrap_or_default();
        let is_name = last.len() >= 2 && last.iter().all(u8::is_ascii_alphabetic);
        if labels.len() >= 2 && labels.iter().all(good) && is_name {
            free = at + 1 + domain.len();
            found.push((start, free));
        }
    }
    found
}

/// Four numbers up to 255 without leading zeros, with no digit, letter or dot with a digit beside them (so no version
/// of five numbers), that are globally routable.
fn public_ips(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut free = 0;
    for dot in memchr::memchr_iter(b'.', text) {
        if dot < free {
            continue;
        }
        let digits = text[..dot].iter().rev().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let start = dot - digits;
        let before = start.checked_sub(1).map(|at| text[at]);
        if !(1..=3).contains(&digits)
            || before.is_some_and(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        {
            continue;
        }
        let Some((octets, end)) = octets(&text[start..]) else { continue };
        let end = start + end;
        let beside = match text.get(end..) {
            Some([b'.', digit, ..]) => digit.is_ascii_alphanumeric(),
            Some([byte, ..]) => byte.is_ascii_alphanumeric() || *byte == b'_',
            _ => false,
        };
        if !beside && is_global(octets) {
            found.push((start, end));
            free = end;
        }
    }
    found
}

fn octets(text: &[u8]) -> Option<([u8; 4], usize)> {
    let mut octets = [0; 4];
    let mut at = 0;
    for (i, octet) in octets.iter_mut().enumerate() {
        if i > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let digits = text[at..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&text[at..at + digits]).ok()?;
        if digits == 0 || digits > 3 || (digits > 1 && text[at] == b'0') {
            return None;
        }
        *octet = number.parse().ok()?;
        at += digits;
    }
    Some((octets, at))
}

/// Not private, shared, loopback, link-local, for documentation, benchmarks or protocols, multicast or reserved: what
/// IANA's registry of special addresses leaves.
fn is_global(octets: [u8; 4]) -> bool {
    let [a, b, c, _] = octets;
    let special = a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224;
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> (String, PiiCounts) {
        let mut out = text.to_owned();
        let counts = Pii::default().replace(&mut out);
        (out, counts)
    }

    #[test]
    fn addresses_are_found_and_what_looks_like_them_is_not() {
        for private in ["me@host.org", "a.b+c@x-y.co.uk", "<who@where.net>", "mailto:x_y@z.io."] {
            let (out, counts) = replaced(private);
            assert_eq!(counts.emails, 1, "{private}");
            assert!(EMAILS.iter().any(|email| out.contains(email)), "{private} -> {out}");
        }
        for plain in ["@decorator", "x @ y", "a@b", "git@host:path", "matrix@vector.T1", "user@.com", "a@b.c"]
        {
            assert_eq!(replaced(plain).1.emails, 0, "{plain}");
        }
        for public in ["8.8.8.8", "at 93.184.216.34:80,", "(1.1.1.1)", "end 203.0.112.9."] {
            assert_eq!(replaced(public).1.ips, 1, "{public}");
        }
        for other in [
            "10.0.0.1",
            "127.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "1.2.3",
            "1.2.3.4.5",
            "v8.8.8.8",
            "8.8.8.256",
            "08.8.8.8",
            "8.8.8.8a",
            "192.0.2.1",
            "1234.8.8.8",
        ] {
            assert_eq!(replaced(other).1.ips, 0, "{other}");
        }
        for key in [
            "AKIAABCDEFGHIJKLMNOP",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIabc+/=\n-----END RSA PRIVATE KEY-----",
            r"-----BEGIN PRIVATE KEY-----\nMIIabc+/=\nxyz\r\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\\n' +\n    \"MIIabc+/=\\n\" +\n    '-----END PRIVATE KEY-----",
        ] {
            assert_eq!(
                replaced(&format!("k = '{key}'")),
                ("k = '<KEY>'".to_owned(), PiiCounts { keys: 1, ..PiiCounts::default() })
            );
        }
    }

    #[test]
    fn the_replacement_is_a_function_of_the_document_and_keeps_equal_addresses_equal() {
        let text = "a@b.org c@d.org a@b.org 8.8.8.8 9.9.9.9 8.8.8.8";
        let (out, counts) = replaced(text);
        assert_eq!((counts.emails, counts.ips), (3, 3));
        let words: Vec<&str> = out.split(' ').collect();
        assert_eq!((words[0], words[3]), (words[2], words[5]));
        assert_eq!(replaced(text).0, out);
        // Replaced once, it is left alone.
        assert_eq!(replaced(&out).1.ips, 0);
        // Over many documents every replacement comes.
        let seen: std::collections::BTreeSet<String> = (0..200)
            .map(|i| replaced(&format!("8.8.8.8 {i}")).0.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(seen.len(), IPS.len());
    }
}
