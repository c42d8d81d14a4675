//! Which files a source reads, in an order that does not depend on the file system.
//!
//! Listed by the `ignore` crate: hidden files are skipped, symbolic links are not followed (a loop cannot
//! happen, and no file comes twice), `.gitignore` files inside the folder hold. What lies outside the folder
//! (a parent's `.gitignore`, git's global settings) has no say: the same folder gives the same corpus anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::WalkBuilder;

use crate::document::{Loss, OnError};
use crate::error::{Error, Result};

/// A file that is going to be read: 40 bytes and its id, since a corpus may have many millions.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    /// Path relative to the source's folder with `/`, or as the source defines it.
    pub(crate) id: Box<str>,
    place: Arc<Place>,
    /// Size in bytes when it was listed.
    pub(crate) len: u64,
    /// Set when the file is left out before it is opened.
    pub(crate) loss: Option<Loss>,
}

/// Where files lie, and how their ids come from their paths.
#[derive(Debug)]
pub(crate) enum Place {
    /// The id is `label` and the path below the folder.
    Folder { folder: PathBuf, label: String },
    /// One file, whose id does not say how it is written.
    File { path: PathBuf, id: String },
}

impl InputFile {
    fn new(place: &Arc<Place>, id: String, path: &Path, len: u64) -> Self {
        let place = match Self::at(place, &id) == path {
            true => place.clone(),
            false => Arc::new(Place::File { path: path.to_owned(), id: id.clone() }),
        };
        Self { id: id.into(), place, len, loss: None }
    }

    fn at(place: &Place, id: &str) -> PathBuf {
        match place {
            Place::Folder { folder, label } => folder.join(id.strip_prefix(label.as_str()).unwrap_or(id)),
            Place::File { path, .. } => path.clone(),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> PathBuf {
        Self::at(&self.place, &self.id)
    }
}

/// What paths are called in reports: there, where a file lies has no place.
#[derive(Debug)]
pub(crate) struct Names(Vec<Arc<Place>>);

impl Names {
    /// The id that a file of the listing would have; the file name of any other.
    pub(crate) fn of(&self, path: &Path) -> String {
        let id = self.0.iter().find_map(|place| match &**place {
            Place::Folder { folder, label } => {
                path.strip_prefix(folder).ok().map(|rest| format!("{label}{}", slashed(rest)))
            }
            Place::File { path: one, id } => (one == path).then(|| id.clone()),
        });
        id.unwrap_or_else(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }
}

/// Everything a source reads, and what to call it in messages.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) place: String,
    pub(crate) files: Vec<InputFile>,
}

impl Listing {
    pub(crate) fn none(place: String) -> Self {
        Self { place, files: Vec::new() }
    }

    /// How errors about its files name them.
    pub(crate) fn names(&self) -> Names {
        let mut places: Vec<Arc<Place>> = Vec::new();
        for file in &self.files {
            // Files of one place come one after the other.
            if !places.last().is_some_and(|last| Arc::ptr_eq(last, &file.place)) {
                places.push(file.place.clone());
            }
        }
        Names(places)
    }

    /// Marks files above the limit; they are counted, never opened.
    pub(crate) fn drop_larger_than(&mut self, max_file_bytes: u64) {
        for file in self.files.iter_mut().filter(|file| file.len > max_file_bytes) {
            file.loss = Some(Loss::TooLarge);
        }
    }

    /// Keeps files until their sizes reach `max_bytes`, taken in the order of the hash of their path: a fair
    /// sample that stays nearly the same when files come and go. A file that no longer fits is passed over.
    pub(crate) fn keep_at_most(&mut self, max_bytes: u64) {
        let mut order: Vec<_> = (0..self.files.len()).filter(|&i| self.files[i].loss.is_none()).collect();
        order.sort_by_key(|&i| *blake3::hash(self.files[i].id.as_bytes()).as_bytes());
        let mut total = 0u64;
        for i in order {
            let file = &mut self.files[i];
            match total.checked_add(file.len).filter(|&sum| sum <= max_bytes) {
                Some(sum) => total = sum,
                None => file.loss = Some(Loss::OverMaxBytes),
            }
        }
    }
}

/// All plain files under `root` that `.gitignore` leaves (when `gitignore`) and `wanted` takes, sorted by path. Their
/// ids begin with `label`.
pub(crate) fn walk(
    root: &Path,
    label: &str,
    gitignore: bool,
    on_error: OnError,
    wanted: impl Fn(&Path, &str) -> bool,
) -> Result<Vec<InputFile>> {
    let metadata = std::fs::metadata(root).map_err(Error::io("list", root))?;
    if !metadata.is_dir() {
        return Err(Error::WrongKind { path: root.to_owned(), expected: "a folder" });
    }
    let walker = WalkBuilder::new(root)
        .hidden(true)
        .follow_links(false)
        .parents(false)
        .ignore(false)
        .git_global(false)
        .git_exclude(false)
        .git_ignore(gitignore)
        .require_git(false)
        .build();
    let place = Arc::new(Place::Folder { folder: root.to_owned(), label: label.to_owned() });
    let mut files = Vec::new();
    let skip = |source: ignore::Error| {
        let error = Error::Walk { path: root.to_owned(), source };
        if on_error == OnError::Stop {
            return Err(error);
        }
        tracing::warn!("skipped: {error}");
        let id = unreadable(root, &error);
        let mut file = InputFile::new(&place, format!("{label}{id}"), &root.join(&id), 0);
        file.loss = Some(Loss::Unreadable);
        Ok(file)
    };
    for entry in walker {
        let entry = match entry {
            Ok(entry) => entry,
            Err(source) => {
                files.push(skip(source)?);
                continue;
            }
        };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let id = slashed(relative);
        if wanted(relative, &id) {
            // It may be gone since the folder was listed.
            files.push(match entry.metadata() {
                Ok(metadata) => InputFile::new(&place, format!("{label}{id}"), entry.path(), metadata.len()),
                Err(source) => skip(source)?,
            });
        }
    }
    files.sort_by(|a, b| a.id.cmp(&b.id).then_with(|| a.path().cmp(&b.path())));
    files.shrink_to_fit();
    Ok(files)
}

/// What an error of the walk is about, relative to `root`; the message where it names no path.
fn unreadable(root: &Path, error: &Error) -> String {
    let message = match error {
        Error::Walk { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    let prefix = format!("{}/", root.display());
    let inside = message.split_once(&prefix).map(|(_, rest)| rest);
    inside.and_then(|rest| rest.split(": ").next()).map_or(message.clone(), str::to_owned)
}

/// A single file named by the source: its id is its file name.
pub(crate) fn single(path: &Path) -> Result<InputFile> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::WrongKind { path: path.to_owned(), expected: "a file or a folder" });
    }
    let id =
        path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into_owned();
    let place = Arc::new(Place::File { path: path.to_owned(), id: id.clone() });
    Ok(InputFile::new(&place, id, path, metadata.len()))
}

/// The extension in lower case, without the dot.
pub(crate) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The language that a file name extension stands for, by its common name in lower case.
pub(crate) fn language(path: &Path) -> Option<String> {
    let extension = extension(path)?;
    let name = match extension.as_str() {
        "py" | "pyi" => "python",
        "rs" => "rust",
        "js" | "mjs" | "cjs" | "jsx" => "javascript",
        "ts" | "tsx" | "mts" | "cts" => "typescript",
        "yml" => "yaml",
        "cs" => "c#",
        "fs" | "fsi" | "fsx" => "f#",
        "kt" | "kts" => "kotlin",
        "asm" | "s" | "nasm" => "assembly",
        "x68" => "motorola 68k assembly",
        "wat" | "wast" => "webassembly",
        "erl" | "hrl" => "erlang",
        "ex" | "exs" => "elixir",
        "pl" | "pm" => "perl",
        "smt2" => "smt",
        "gv" | "dot" => "graphviz (dot)",
        "owl" => "web ontology language",
        "man" => "roff",
        "ml" | "mli" => "ocaml",
        "clj" | "cljs" | "cljc" => "clojure",
        "el" => "emacs lisp",
        "lisp" | "cl" => "common lisp",
        "scm" => "scheme",
        "rkt" => "racket",
        "ps1" | "psm1" => "powershell",
        "pas" => "pascal",
        "adb" | "ads" => "ada",
        "sv" => "systemverilog",
        "vhd" => "vhdl",
        "proto" => "protocol buffer",
        "c" | "h" => "c",
        "cpp" | "cc" | "cxx" | "hpp" | "hh" => "c++",
        "hs" => "haskell",
        "jl" => "julia",
        "r" => "r",
        "mpl" | "mw" => "maple",
        "tex" | "sty" | "cls" => "tex",
        "lean" => "lean",
        "thy" => "isabelle",
        "agda" => "agda",
        "idr" => "idris",
        "g" | "gap" | "gd" | "gi" => "gap",
        "f" | "f90" | "f95" | "f03" | "for" => "fortran",
        "ipynb" => "jupyter-notebook",
        "md" | "markdown" => "markdown",
        "txt" => "text",
        "html" | "htm" | "xhtml" => "html",
        "sh" | "bash" => "shell",
        "rb" => "ruby",
        "m" => "matlab",
        other => other,
    };
    Some(name.to_owned())
}

fn slashed(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names are Linguist's, as The Stack has them.
    #[test]
    fn extensions_stand_for_the_names_that_rules_use() {
        for (path, name) in [
            ("a.yml", "yaml"),
            ("a.YAML", "yaml"),
            ("a.cs", "c#"),
            ("a.kt", "kotlin"),
            ("a.asm", "assembly"),
            ("a.wat", "webassembly"),
            ("a.erl", "erlang"),
            ("a.ex", "elixir"),
            ("a.fs", "f#"),
            ("a.pl", "perl"),
            ("a.smt2", "smt"),
            ("a.gv", "graphviz (dot)"),
            ("a.go", "go"),
            ("a.json", "json"),
        ] {
            assert_eq!(language(Path::new(path)).as_deref(), Some(name), "{path}");
        }
        assert_eq!(language(Path::new("Makefile")), None);
    }

    #[test]
    fn a_file_that_goes_while_the_folder_is_listed_is_an_error_or_counted() {
        for on_error in [OnError::Stop, OnError::Skip] {
            let dir = tempfile::tempdir().unwrap();
            for name in ["a.py", "b.py", "c.py"] {
                std::fs::write(dir.path().join(name), name).unwrap();
            }
            let walked = walk(dir.path(), "label/", true, on_error, |relative, id| {
                if id == "b.py" {
                    std::fs::remove_file(dir.path().join(relative)).unwrap();
                }
                true
            });
            if on_error == OnError::Stop {
                assert!(walked.err().unwrap().to_string().contains("b.py"));
                continue;
            }
            let files = walked.unwrap();
            let found: Vec<_> = files.iter().map(|file| (&*file.id, file.len, file.loss)).collect();
            assert_eq!(
                found,
                [("label/a.py", 4, None), ("label/b.py", 0, Some(Loss::Unreadable)), ("label/c.py", 4, None)]
            );
            let names = Listing { place: String::new(), files }.names();
            assert_eq!(names.of(&dir.path().join("x/y.py")), "label/x/y.py");
            assert_eq!(names.of(Path::new("/elsewhere/z.py")), "z.py");
        }
    }
}
