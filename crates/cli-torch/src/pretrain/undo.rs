//! A run that fails before its first step leaves nothing, so that the corrected command finds its place free.
//!
//! What was there before is never touched. Token shards that were finished stay: the next run finds them prepared.

use std::path::{Path, PathBuf};

/// What was not there before a run began.
pub(super) struct Undo {
    /// The run folder.
    run: PathBuf,
    /// The folders above it and the cache, inner before outer, of those that had to be made.
    made: Vec<PathBuf>,
    cache: PathBuf,
    /// Names in the cache.
    cached: Vec<std::ffi::OsString>,
}

impl Undo {
    /// To be called before anything is written.
    pub(super) fn new(run: &Path, cache: &Path) -> Self {
        let missing =
            |p: &Path| p.ancestors().take_while(|a| !a.exists()).map(Path::to_owned).collect::<Vec<_>>();
        Self {
            run: run.to_owned(),
            made: [missing(run), missing(cache)].concat(),
            cache: cache.to_owned(),
            cached: names(cache),
        }
    }

    /// Removes the contents of the run folder, and every folder that was made and is empty. Errors are passed over: the
    /// one that brought us here is the one to report.
    pub(super) fn undo(&self) {
        for name in names(&self.run) {
            let path = self.run.join(name);
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        self.cache();
        self.folders();
    }

    /// For a run folder that could not be begun. What lies in it may be another process's, so only a lock that is alone
    /// goes.
    pub(super) fn not_begun(&self) {
        if self.made.contains(&self.run) && names(&self.run) == [".lock"] {
            let _ = std::fs::remove_file(self.run.join(".lock"));
        }
        self.folders();
    }

    fn cache(&self) {
        for name in names(&self.cache).iter().filter(|n| !self.cached.contains(n)) {
            let _ = std::fs::remove_dir(self.cache.join(name)); // of a source that could not be read
        }
    }

    fn folders(&self) {
        for folder in &self.made {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(dir).map(|d| d.flatten().map(|e| e.file_name()).collect()).unwrap_or_default()
}
