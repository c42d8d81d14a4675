//! What xtask knows of the machine: the few environment variables it reads, gathered in one place so that
//! everything else is a function of a value that a test can make.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The machine as far as xtask looks at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// `LIBTORCH`, where it is set and not empty.
    pub(crate) libtorch: Option<PathBuf>,
    /// The folder `llama-pro` in the user's cache; none where there is no home.
    pub(crate) cache: Option<PathBuf>,
    /// The first `python3` on PATH.
    pub(crate) python: Option<PathBuf>,
    /// The C++ compiler: `CXX`, or `c++` from PATH.
    pub(crate) compiler: Option<PathBuf>,
    /// The root of the workspace.
    pub(crate) workspace: PathBuf,
}

impl Host {
    /// Reads the environment.
    pub(crate) fn from_environment() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            libtorch: variable("LIBTORCH").map(PathBuf::from),
            cache: cache(
                env::consts::OS,
                variable("XDG_CACHE_HOME").map(PathBuf::from),
                variable("HOME").map(PathBuf::from),
            ),
            python: find_program("python3", &path),
            compiler: variable("CXX").map(PathBuf::from).or_else(|| find_program("c++", &path)),
            workspace: workspace(),
        }
    }
}

/// The user's cache folder for this project. A relative XDG_CACHE_HOME is ignored, as its specification says.
fn cache(os: &str, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let base = match xdg.filter(|path| path.is_absolute()) {
        Some(path) => path,
        None if os == "macos" => home?.join("Library/Caches"),
        None => home?.join(".cache"),
    };
    Some(base.join("llama-pro"))
}

/// The workspace: cargo tells a running program where its package lies; a program started by hand falls back to
/// where it was built.
fn workspace() -> PathBuf {
    let package = variable("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.filter(|path| path.ends_with("xtask"));
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// The first executable file of this name in the folders of a PATH.
pub(crate) fn find_program(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    env::split_paths(path)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(name))
        .find(|file| {
            file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// A variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An executable script. `cp` writes it, not this process: a child that another test starts at the same moment
    /// could still hold a descriptor open for writing, and the system runs no file that somebody writes.
    pub(crate) fn script(file: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let draft = file.with_extension("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        if file.exists() {
            std::fs::remove_file(file).unwrap();
        }
        assert!(std::process::Command::new("cp").arg(draft).arg(file).status().unwrap().success());
    }

    fn path(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }

    #[test]
    fn the_cache_follows_the_system() {
        assert_eq!(cache("linux", None, path("/h")), path("/h/.cache/llama-pro"));
        assert_eq!(cache("macos", None, path("/h")), path("/h/Library/Caches/llama-pro"));
        assert_eq!(cache("linux", path("/x"), path("/h")), path("/x/llama-pro"));
        assert_eq!(cache("linux", path("x"), path("/h")), path("/h/.cache/llama-pro"));
        assert_eq!(cache("linux", None, None), None);
    }

    #[test]
    fn a_program_is_an_executable_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("python3");
        std::fs::write(&file, "").unwrap();
        assert_eq!(find_program("python3", folder.path().as_os_str()), None);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program("python3", folder.path().as_os_str()), Some(file));
    }
}
