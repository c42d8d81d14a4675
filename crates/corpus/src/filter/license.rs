//! The licence of a document: what its source says, its own SPDX line, or the licence file nearest above it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Verdict, demand};
use crate::document::Document;
use crate::pipeline::CorpusSource;
use crate::source::{Environment, SourceKind};

/// An allow-list. A document of several licences passes if one of them is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LicenseRule {
    /// SPDX identifiers, in any case. Default: permissive ones, as The Stack keeps.
    pub allow: Vec<String>,
    /// Whether a document whose licence is not known passes; no.
    pub unknown: bool,
}

impl Default for LicenseRule {
    fn default() -> Self {
        let allow =
            "MIT MIT-0 Apache-2.0 BSD-2-Clause BSD-3-Clause 0BSD ISC Unlicense CC0-1.0 Zlib BSL-1.0 PSF-2.0";
        Self { allow: allow.split(' ').map(str::to_owned).collect(), unknown: false }
    }
}

impl LicenseRule {
    pub(super) fn judge(&self, document: &mut Document, licenses: &Licenses) -> Verdict {
        if document.meta.license.is_empty() {
            document.meta.license = spdx(&document.text)
                .or_else(|| licenses.of_path(document.meta.path.as_deref()?))
                .unwrap_or_default();
        }
        let of = &document.meta.license;
        demand(!of.is_empty() || self.unknown, "license/unknown", || "no licence known".to_owned())?;
        let allowed = |name: &String| self.allow.iter().any(|allow| allow.eq_ignore_ascii_case(name));
        demand(of.is_empty() || of.iter().any(allowed), "license/not-allowed", || of.join(", "))
    }
}

/// `SPDX-License-Identifier:` within the first 20 lines. "A OR B" are two licences, "A AND B" is one that no list has.
fn spdx(text: &str) -> Option<Vec<String>> {
    let line = text.lines().take(20).find_map(|line| line.split_once("SPDX-License-Identifier:"))?.1;
    let line = line.trim().trim_end_matches("*/").trim_end_matches("-->").trim();
    Some(line.split(" OR ").map(|name| name.trim_matches(['(', ')', ' ']).to_owned()).collect())
}

/// Licence files of a folder of sources, by the folder that each is in.
#[derive(Default)]
pub(crate) struct Licenses(BTreeMap<PathBuf, Vec<String>>);

impl Licenses {
    /// Those of a source, where a rule asks for them and the source is a folder of files.
    pub(crate) fn of(source: &CorpusSource, environment: &Environment) -> Self {
        let mut all = BTreeMap::new();
        if let (true, SourceKind::Files(files)) = (source.filters.license.is_on(), &source.source) {
            collect(&environment.resolve(&files.path), Path::new(""), &mut all);
        }
        Self(all)
    }

    /// Over all of them; empty where there are none.
    pub(crate) fn digest(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut hasher = blake3::Hasher::new();
        for (folder, names) in &self.0 {
            hasher.update(folder.as_os_str().as_encoded_bytes()).update(b"\n");
            names.iter().for_each(|name| {
                hasher.update(name.as_bytes()).update(b"\n");
            });
            hasher.update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }

    fn of_path(&self, path: &str) -> Option<Vec<String>> {
        Path::new(path).ancestors().skip(1).find_map(|folder| self.0.get(folder)).cloned()
    }
}

fn collect(root: &Path, relative: &Path, all: &mut BTreeMap<PathBuf, Vec<String>>) {
    // What cannot be read has no known licence.
    let Ok(entries) = std::fs::read_dir(root.join(relative)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            collect(root, &relative.join(&name), all);
            continue;
        }
        let upper = name.to_string_lossy().to_ascii_uppercase();
        let is_license =
            ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"].iter().any(|word| upper.starts_with(word));
        if kind.is_file()
            && is_license
            && let Ok(Some(bytes)) = crate::readers::files::read_capped(&entry.path(), 1 << 20)
            && let Some(license) = recognise(&String::from_utf8_lossy(&bytes))
        {
            let of = all.entry(relative.to_owned()).or_default();
            of.push(license.to_owned());
            of.sort();
        }
    }
}

/// The licence whose title or grant comes first: many speak of others further down, as the GPL does of the LGPL and the
/// MPL of all of the GNU ones.
fn recognise(text: &str) -> Option<&'static str> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let has = |phrase: &str| text.contains(phrase);
    let notice = "the above copyright notice and this permission notice";
    let phrases = [
        ("gnu affero general public license", "AGPL-3.0"),
        ("gnu lesser general public license", "LGPL"),
        ("gnu library general public license", "LGPL"),
        ("gnu general public license", "GPL"),
        ("mozilla public license", "MPL-2.0"),
        ("eclipse public license", "EPL"),
        ("apache license", if has("version 2.0") { "Apache-2.0" } else { "Apache" }),
        (
            "permission is hereby granted, free of charge, to any person obtaining a copy",
            if has(notice) { "MIT" } else { "MIT-0" },
        ),
        (
            "redistribution and use in source and binary forms",
            match (has("advertising materials"), has("neither the name")) {
                (true, _) => "BSD-4-Clause",
                (false, true) => "BSD-3-Clause",
                (false, false) => "BSD-2-Clause",
            },
        ),
        (
            "permission to use, copy, modify, and/or distribute this software for any purpose",
            if has(notice) { "ISC" } else { "0BSD" },
        ),
        ("permission to use, copy, modify, and distribute this software for any purpose", "ISC"),
        ("this is free and unencumbered software released into the public domain", "Unlicense"),
        ("cc0 1.0 universal", "CC0-1.0"),
        ("boost software license", "BSL-1.0"),
        ("python software foundation license", "PSF-2.0"),
        ("altered source versions must be plainly marked as such", "Zlib"),
    ];
    let places = phrases.iter().filter_map(|(phrase, name)| Some((text.find(phrase)?, *name)));
    places.min_by_key(|(place, _)| *place).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spdx_lines_and_licence_files_are_read() {
        assert_eq!(
            spdx("// SPDX-License-Identifier: MIT OR Apache-2.0\n"),
            Some(vec!["MIT".into(), "Apache-2.0".into()])
        );
        assert_eq!(spdx("/* SPDX-License-Identifier: (ISC) */"), Some(vec!["ISC".into()]));
        assert_eq!(spdx("nothing"), None);
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (file, license) in [("LICENSE-MIT", "MIT"), ("LICENSE-APACHE", "Apache-2.0")] {
            let text = std::fs::read_to_string(workspace.join(file)).unwrap();
            assert_eq!(recognise(&text), Some(license), "{file}");
        }
        assert_eq!(recognise("all rights reserved"), None);
    }

    /// Titles and what stands in the same files about other licences, in the order of the files.
    #[test]
    fn a_licence_that_speaks_of_others_is_itself() {
        let grant = "Permission to use, copy, modify, and/or distribute this software for any\npurpose with or without \
                     fee is hereby granted";
        let isc = format!(
            "ISC License\n\n{grant}, provided that the above\ncopyright notice and this permission notice \
                           appear in all copies."
        );
        let zero = format!("BSD Zero Clause License\n\n{grant}.");
        let bsd =
            "Redistribution and use in source and binary forms, with or without\nmodification, are permitted";
        let bsd3 = format!("{bsd}\n* Neither the name of the copyright holder nor");
        let bsd4 = format!("{bsd}\n3. All advertising materials mentioning features\n4. Neither the name of");
        for (text, license) in [
            (
                "Mozilla Public License Version 2.0\n==================================\n1.12. \"Secondary License\"\n  means \
                 either the GNU General Public License, Version 2.0, the GNU\n  Lesser General Public License, Version \
                 2.1, the GNU Affero General\n  Public License, Version 3.0",
                "MPL-2.0",
            ),
            (
                "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007\n\n  13. Use \
                 with the GNU Affero General Public License.\n  ... use the GNU Lesser General\nPublic License instead",
                "GPL",
            ),
            (
                "                    GNU GENERAL PUBLIC LICENSE\n                       Version 2, June 1991\n\n(Some other \
                 Free Software Foundation software is covered by\nthe GNU Lesser General Public License instead.)",
                "GPL",
            ),
            (
                "                   GNU LESSER GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007\n\n  \
                 This version of the GNU Lesser General Public License incorporates\nthe terms of version 3 of the GNU \
                 General Public License",
                "LGPL",
            ),
            (
                "                    GNU AFFERO GENERAL PUBLIC LICENSE\n                       Version 3, 19 November 2007\n \
                 13. Remote Network Interaction; Use with the GNU General Public License.",
                "AGPL-3.0",
            ),
            (
                "                  GNU LIBRARY GENERAL PUBLIC LICENSE\n                       Version 2, June 1991",
                "LGPL",
            ),
            ("Eclipse Public License - v 2.0\n ... the GNU General Public License, version 2", "EPL"),
            (
                "                                 Apache License\n                           Version 2.0, January 2004",
                "Apache-2.0",
            ),
            ("The Apache License\nVersion 1.1", "Apache"),
            ("Boost Software License - Version 1.0 - August 17th, 2003", "BSL-1.0"),
            ("Creative Commons Legal Code\n\nCC0 1.0 Universal", "CC0-1.0"),
            ("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n... GPL-compatible", "PSF-2.0"),
            (
                "This software is provided 'as-is', without any express or implied\nwarranty.\n2. Altered source versions \
                 must be plainly marked as such, and must not be",
                "Zlib",
            ),
            (isc.as_str(), "ISC"),
            (zero.as_str(), "0BSD"),
            (bsd, "BSD-2-Clause"),
            (bsd3.as_str(), "BSD-3-Clause"),
            (bsd4.as_str(), "BSD-4-Clause"),
        ] {
            assert_eq!(recognise(text), Some(license), "{text}");
        }
    }
}
