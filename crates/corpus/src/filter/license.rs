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

/// A licence by sentences that only it has.
fn recognise(text: &str) -> Option<&'static str> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let has = |phrase: &str| text.contains(phrase);
    if has("gnu affero general public license") {
        Some("AGPL-3.0")
    } else if has("gnu lesser general public license") {
        Some("LGPL")
    } else if has("gnu general public license") {
        Some("GPL")
    } else if has("mozilla public license") {
        Some("MPL-2.0")
    } else if has("apache license") && has("version 2.0") {
        Some("Apache-2.0")
    } else if has("permission is hereby granted, free of charge, to any person obtaining a copy") {
        if has("the above copyright notice and this permission notice") { Some("MIT") } else { Some("MIT-0") }
    } else if has("redistribution and use in source and binary forms") {
        if has("neither the name") { Some("BSD-3-Clause") } else { Some("BSD-2-Clause") }
    } else if has("permission to use, copy, modify, and/or distribute this software for any purpose") {
        if has("the above copyright notice and this permission notice") { Some("ISC") } else { Some("0BSD") }
    } else if has("this is free and unencumbered software released into the public domain") {
        Some("Unlicense")
    } else if has("cc0 1.0 universal") {
        Some("CC0-1.0")
    } else if has("boost software license") {
        Some("BSL-1.0")
    } else if has("python software foundation license") {
        Some("PSF-2.0")
    } else {
        None
    }
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
}
