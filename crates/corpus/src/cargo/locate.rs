//! From the name of a crate to the folder of its pinned source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::source::{Environment, Lockfile};

/// A crate whose source is on this machine.
pub(super) struct Located {
    /// `name-version`, the same on every machine.
    pub(super) label: String,
    pub(super) folder: PathBuf,
}

/// Finds each crate, in the order of their labels, each once.
pub(super) fn crates(names: &[String], environment: &Environment) -> Result<Vec<Located>> {
    let Some(lockfile) = &environment.lockfile else {
        return Err(Error::Setting {
            key: "crates",
            message: "this source needs the Cargo.lock that pins the crates, and none was given".to_owned(),
        });
    };
    let packages = read_lock(lockfile)?;
    let pinned: BTreeSet<(String, String)> = names
        .iter()
        .map(|name| {
            pin(name, &packages)
                .ok_or_else(|| Error::NotLocked { path: lockfile.path.clone(), name: name.clone() })
        })
        .collect::<Result<_>>()?;
    pinned.into_iter().map(|(name, version)| find(name, version, environment)).collect()
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

fn read_lock(lockfile: &Lockfile) -> Result<Vec<Package>> {
    let lock: Lock = toml::from_str(&lockfile.text).map_err(|error| Error::Lockfile {
        path: lockfile.path.clone(),
        message: error.message().to_owned(),
    })?;
    Ok(lock.package)
}

fn pin(wanted: &str, packages: &[Package]) -> Option<(String, String)> {
    let (name, version) = match wanted.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (wanted, None),
    };
    packages
        .iter()
        .filter(|package| {
            package.name == name && version.is_none_or(|version| fits(&package.version, version))
        })
        .max_by_key(|package| version_order(&package.version))
        .map(|package| (package.name.clone(), package.version.clone()))
}

/// `0.9` means any 0.9.x, as in cargo's package ids.
fn fits(pinned: &str, wanted: &str) -> bool {
    pinned.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Numbers compare as numbers, and a pre-release comes before its release.
fn version_order(version: &str) -> (Vec<u64>, bool, String) {
    let core = version.split('+').next().unwrap_or(version);
    let (numbers, pre) = core.split_once('-').unwrap_or((core, ""));
    let numbers = numbers.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    (numbers, pre.is_empty(), pre.to_owned())
}

fn find(name: String, version: String, environment: &Environment) -> Result<Located> {
    let label = format!("{name}-{version}");
    let mut looked_in = Vec::new();
    if let Some(vendor) = &environment.vendor {
        looked_in.push(vendor.display().to_string());
        let plain = vendor.join(&name);
        let candidates = [(vendor.join(&label), true), (plain.clone(), has_version(&plain, &version))];
        if let Some((folder, _)) = candidates.into_iter().find(|(folder, right)| *right && folder.is_dir()) {
            return Ok(Located { label, folder });
        }
    }
    if let Some(cargo_home) = &environment.cargo_home {
        let registries = cargo_home.join("registry").join("src");
        looked_in.push(registries.display().to_string());
        // One folder per registry or mirror; the same version has the same content in each.
        let mut folders: Vec<PathBuf> = match std::fs::read_dir(&registries) {
            Ok(entries) => entries.flatten().map(|entry| entry.path().join(&label)).collect(),
            Err(_) => Vec::new(),
        };
        folders.sort();
        if let Some(folder) = folders.into_iter().find(|folder| folder.is_dir()) {
            return Ok(Located { label, folder });
        }
    }
    let looked_in =
        if looked_in.is_empty() { "(no cargo home was given)".to_owned() } else { looked_in.join(", ") };
    Err(Error::MissingCrate { name, version, looked_in })
}

/// `cargo vendor` names a folder by the crate alone; its manifest has the version.
fn has_version(folder: &Path, version: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(folder.join("Cargo.toml")) else { return false };
    let Ok(manifest) = toml::from_str::<toml::Table>(&text) else { return false };
    manifest.get("package").and_then(|package| package.get("version")).and_then(toml::Value::as_str)
        == Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_unless_one_is_named() {
        let packages: Vec<Package> = ["1.9.0", "1.10.0", "1.10.0-rc.1", "0.99.99"]
            .iter()
            .map(|version| Package { name: "a".to_owned(), version: (*version).to_owned() })
            .collect();
        assert_eq!(pin("a", &packages).unwrap().1, "1.10.0");
        assert_eq!(pin("a@1.9.0", &packages).unwrap().1, "1.9.0");
        assert_eq!(pin("a@1", &packages).unwrap().1, "1.10.0");
        assert_eq!(pin("a@1.1", &packages), None);
        assert_eq!(pin("a@2.0.0", &packages), None);
        assert_eq!(pin("b", &packages), None);
    }
}
