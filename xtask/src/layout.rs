//! What a usable libtorch folder looks like: the version in its headers and the libraries that the link needs.
//!
//! tch 0.24 is generated from libtorch 2.11.0 and works with no other. torch-sys checks the version only where a
//! file `build-version` lies in the folder, which Python wheels lack, so it is read here from version.h.

use std::fs;
use std::path::Path;

/// The one version of libtorch that tch 0.24 works with.
pub(crate) const VERSION: &str = "2.11.0";

/// The names under which the version header is found, the newer first.
const HEADERS: [&str; 2] =
    ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];

/// The file name of a shared library on this system.
pub(crate) fn library(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Checks a folder with `include/` and `lib/`.
///
/// # Errors
/// One line that says what is missing or which version is there instead.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    if !root.is_dir() {
        return Err(format!("{} is not a folder", root.display()));
    }
    let header = HEADERS.iter().find_map(|name| fs::read_to_string(root.join(name)).ok());
    let Some(header) = header else {
        return Err(format!("{} has no {}: it is not a libtorch folder", root.display(), HEADERS[0]));
    };
    match version(&header) {
        Some(found) if found == VERSION => {}
        Some(found) => {
            return Err(format!("{} holds libtorch {found}, and tch needs {VERSION}", root.display()));
        }
        None => return Err(format!("{}: no version can be read from its version.h", root.display())),
    }
    for name in ["torch_cpu", "c10", "torch"] {
        let file = root.join("lib").join(library(name));
        if !file.is_file() {
            return Err(format!("{} is missing", file.display()));
        }
    }
    Ok(())
}

/// Does the folder hold the CUDA half of libtorch?
pub(crate) fn has_cuda(root: &Path) -> bool {
    root.join("lib").join(library("torch_cuda")).is_file()
}

/// The version in the text of a version.h: three `#define`s.
fn version(header: &str) -> Option<String> {
    let part = |name: &str| {
        header.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next())?
        })
    };
    let number = |name| part(name)?.parse::<u32>().ok();
    Some(format!(
        "{}.{}.{}",
        number("TORCH_VERSION_MAJOR")?,
        number("TORCH_VERSION_MINOR")?,
        number("TORCH_VERSION_PATCH")?
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A version.h of the given version.
    pub(crate) fn header(major: u32, minor: u32, patch: u32) -> String {
        format!(
            "#pragma once\n/// Indicates the major version\n#define TORCH_VERSION_MAJOR {major}\n\
             #define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH {patch}\n"
        )
    }

    /// A folder that looks like libtorch.
    pub(crate) fn fake(root: &Path, version: (u32, u32, u32)) {
        let file = root.join(HEADERS[0]);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, header(version.0, version.1, version.2)).unwrap();
        fs::create_dir_all(root.join("lib")).unwrap();
        for name in ["torch_cpu", "c10", "torch"] {
            fs::write(root.join("lib").join(library(name)), name).unwrap();
        }
    }

    #[test]
    fn the_version_comes_from_the_header() {
        assert_eq!(version(&header(2, 11, 0)).as_deref(), Some("2.11.0"));
        assert_eq!(version("#define TORCH_VERSION_MAJOR 2\n"), None);
        assert_eq!(version(&header(2, 11, 0).replace("11", "x")), None);
    }

    #[test]
    fn a_folder_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(check(&root.join("none")).unwrap_err().contains("is not a folder"));
        assert!(check(root).unwrap_err().contains("not a libtorch folder"));
        fake(root, (2, 9, 1));
        assert!(check(root).unwrap_err().contains("holds libtorch 2.9.1, and tch needs 2.11.0"));
        fake(root, (2, 11, 0));
        assert_eq!(check(root), Ok(()));
        assert!(!has_cuda(root));
        fs::remove_file(root.join("lib").join(library("c10"))).unwrap();
        assert!(check(root).unwrap_err().contains("is missing"));
    }
}
