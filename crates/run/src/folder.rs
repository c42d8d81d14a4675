//! The folder of one run: its layout, its lock, and finding the latest one.
//!
//! `recipe.toml` is what makes a folder a run folder; it is the first file to appear. One process at a time
//! may write: it holds an advisory lock (`flock` on Linux) on `.lock`, which the system lets go of however
//! the process ends, so a stale lock cannot be left behind.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::atomic::{PARTIAL, sync_folder};
use crate::{Error, Provenance, Result, compact_utc, write_atomic};

const LOCK: &str = ".lock";

/// A run folder. Made by [`RunFolder::create`] and [`RunFolder::resume`] it is locked until dropped.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    lock: Option<File>,
}

/// One `checkpoints/step-NNNNNNNN` of a run folder. Whether it is complete is the trainer's to say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointFolder {
    /// Steps that were completed when it was made.
    pub step: u64,
    /// The folder.
    pub path: PathBuf,
}

impl RunFolder {
    /// Makes a new run folder with the resolved recipe in it, and locks it.
    ///
    /// # Errors
    /// [`Error::Occupied`] when something lies there already, [`Error::Locked`], [`Error::Io`].
    pub fn create(dir: &Path, recipe: &toml::Table) -> Result<Self> {
        // Before anything is made, so that a refused folder is left as it was.
        refuse_occupied(dir)?;
        std::fs::create_dir_all(dir).map_err(Error::io(dir, "make the folder"))?;
        let mut folder = Self { dir: dir.to_path_buf(), lock: None };
        folder.lock()?;
        // Again: another process may have finished a run here between the look and the lock.
        refuse_occupied(dir)?;
        let text =
            toml::to_string(recipe).map_err(|e| Error::malformed(&folder.recipe(), None, e.to_string()))?;
        write_atomic(&folder.recipe(), text.as_bytes())?;
        folder.make_parts()?;
        Ok(folder)
    }

    /// Opens a run folder for reading. It is not locked.
    ///
    /// # Errors
    /// [`Error::NotARun`] when there is no folder or no `recipe.toml` in it.
    pub fn open(dir: &Path) -> Result<Self> {
        let not = |reason: &str| Error::NotARun { path: dir.to_path_buf(), reason: reason.to_owned() };
        let metadata = std::fs::metadata(dir).map_err(|e| not(&e.to_string()))?;
        if !metadata.is_dir() {
            return Err(not("it is a file"));
        }
        let folder = Self { dir: dir.to_path_buf(), lock: None };
        if !folder.recipe().is_file() {
            return Err(not("it has no recipe.toml"));
        }
        Ok(folder)
    }

    /// Opens a run folder for going on with the run, and locks it.
    ///
    /// # Errors
    /// As [`RunFolder::open`], and [`Error::Locked`].
    pub fn resume(dir: &Path) -> Result<Self> {
        let mut folder = Self::open(dir)?;
        folder.lock()?;
        folder.make_parts()?;
        Ok(folder)
    }

    /// Takes the lock of the folder, and removes temporary files that a killed process left in it.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process, or another [`RunFolder`] of this one, has it.
    pub fn lock(&mut self) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.dir.join(LOCK);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: self.dir.clone() }),
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock")(e)),
        }
        self.lock = Some(file);
        self.remove_partials()
    }

    /// What a killed writer left, wherever [`write_atomic`] writes in a run.
    fn remove_partials(&self) -> Result<()> {
        let folders = [self.dir.clone(), self.eval(), self.model(), self.dir.join("adapter")];
        for folder in folders.iter().filter(|f| f.is_dir()) {
            for name in names(folder)?.iter().filter(|n| is_partial(n)) {
                let left = folder.join(name);
                if left.is_file() {
                    std::fs::remove_file(&left).map_err(Error::io(&left, "remove"))?;
                }
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `recipe.toml`: the recipe as it was resolved.
    pub fn recipe(&self) -> PathBuf {
        self.dir.join("recipe.toml")
    }

    /// `provenance.json`.
    pub fn provenance(&self) -> PathBuf {
        self.dir.join("provenance.json")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.dir.join("metrics.jsonl")
    }

    /// `summary.json`: what the run wants to say about itself, shown in the report.
    pub fn summary(&self) -> PathBuf {
        self.dir.join("summary.json")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.dir.join("report.html")
    }

    /// `model/`: the trained model. Not made here, because a model folder appears whole.
    pub fn model(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// `delta/`: the trained new blocks alone, where they were asked for in place of the model.
    pub fn delta(&self) -> PathBuf {
        self.dir.join("delta")
    }

    /// `eval/`.
    pub fn eval(&self) -> PathBuf {
        self.dir.join("eval")
    }

    /// `checkpoints/step-NNNNNNNN` for a step. Not made here.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.dir.join("checkpoints").join(format!("step-{step:08}"))
    }

    /// The checkpoints that are there, by step. Other names in the folder are passed over.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn checkpoints(&self) -> Result<Vec<CheckpointFolder>> {
        let parent = self.dir.join("checkpoints");
        if !parent.is_dir() {
            return Ok(Vec::new());
        }
        let mut found: Vec<_> = names(&parent)?
            .iter()
            .filter_map(|name| {
                let digits = name.strip_prefix("step-").filter(|d| d.len() >= 8 && all_digits(d))?;
                Some(CheckpointFolder { step: digits.parse().ok()?, path: parent.join(name) })
            })
            .filter(|c| c.path.is_dir())
            .collect();
        found.sort();
        Ok(found)
    }

    /// The resolved recipe of the run.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Recipe`].
    pub fn read_recipe(&self) -> Result<toml::Table> {
        let path = self.recipe();
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        Ok(crate::load_recipe::<toml::Table>(&path, &text, &[])?.1)
    }

    /// Writes `provenance.json`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_provenance(&self, provenance: &Provenance) -> Result<()> {
        provenance.write(&self.provenance())
    }

    /// Writes `summary.json` from anything that is a JSON object.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_summary<T: Serialize + ?Sized>(&self, summary: &T) -> Result<()> {
        let path = self.summary();
        write_atomic(&path, crate::metrics::pretty(&path, summary)?.as_bytes())
    }

    /// Writes a JSON file into `eval/`, for example `before` into `eval/before.json`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_eval<T: Serialize + ?Sized>(&self, name: &str, table: &T) -> Result<PathBuf> {
        let path = self.eval().join(format!("{name}.json"));
        write_atomic(&path, crate::metrics::pretty(&path, table)?.as_bytes())?;
        Ok(path)
    }

    /// A name that is not taken: `root/stem-YYYYMMDD-HHMMSS` for the present time in UTC, with `-2`, `-3`
    /// and so on where two runs begin in one second, and where a clock that was set back would put the new run
    /// before the newest that is there: [`RunFolder::latest`] goes by the names. Nothing is made.
    pub fn fresh_name(root: &Path, stem: &str) -> PathBuf {
        Self::fresh_name_at(root, stem, SystemTime::now())
    }

    /// [`RunFolder::fresh_name`] for a given time.
    pub fn fresh_name_at(root: &Path, stem: &str, time: SystemTime) -> PathBuf {
        let now = (compact_utc(time), 1);
        // What cannot be listed cannot be followed; making the run there will say why.
        let there = names(root).unwrap_or_default();
        let newest = there.iter().filter_map(|name| Some((stamp(name, stem)?, name))).max();
        let (date, mut n) = match newest {
            Some(((taken, number), name)) if taken >= now.0.replace('-', "") => {
                let date = name.strip_prefix(stem).and_then(|rest| rest.get(1..16)).unwrap_or(&now.0);
                (date.to_owned(), number + 1)
            }
            _ => now,
        };
        loop {
            let path = match n {
                1 => root.join(format!("{stem}-{date}")),
                _ => root.join(format!("{stem}-{date}-{n}")),
            };
            if !path.exists() {
                return path;
            }
            n += 1;
        }
    }

    /// The newest run folder under `root` with a name of [`RunFolder::fresh_name`], by its name. `None`
    /// when there is none, or no `root`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn latest(root: &Path, stem: &str) -> Result<Option<PathBuf>> {
        if !root.is_dir() {
            return Ok(None);
        }
        let newest = names(root)?
            .into_iter()
            .filter_map(|name| Some((stamp(&name, stem)?, root.join(&name))))
            .filter(|(_, path)| Self::open(path).is_ok())
            .max();
        Ok(newest.map(|(_, path)| path))
    }

    fn make_parts(&self) -> Result<()> {
        for part in ["checkpoints", "eval"] {
            let path = self.dir.join(part);
            std::fs::create_dir_all(&path).map_err(Error::io(&path, "make the folder"))?;
        }
        sync_folder(&self.dir)
    }
}

/// A new run may begin in a folder that is absent, empty, or holds only what a kill during
/// [`RunFolder::create`] leaves.
fn refuse_occupied(dir: &Path) -> Result<()> {
    let occupied = |reason: String| Error::Occupied { path: dir.to_path_buf(), reason };
    if dir.join("recipe.toml").exists() {
        return Err(occupied("a run is there already; resume it or choose another folder".to_owned()));
    }
    if dir.exists() && !dir.is_dir() {
        return Err(occupied("it is a file".to_owned()));
    }
    if !dir.exists() {
        return Ok(());
    }
    match names(dir)?.into_iter().find(|n| n != LOCK && !is_partial(n)) {
        Some(name) => Err(occupied(format!("the folder is not empty (it holds `{name}`)"))),
        None => Ok(()),
    }
}

/// The names in a folder, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let name = entry.map_err(Error::io(dir, "list"))?.file_name();
        found.push(name.to_string_lossy().into_owned());
    }
    found.sort();
    Ok(found)
}

fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PARTIAL)
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The part of a run folder's name that orders it: date and time, and the number after them.
fn stamp(name: &str, stem: &str) -> Option<(String, u64)> {
    let rest = name.strip_prefix(stem)?.strip_prefix('-')?;
    let mut parts = rest.splitn(3, '-');
    let (date, time) = (parts.next()?, parts.next()?);
    let number = parts.next().map_or(Some(1), |n| n.parse().ok())?;
    (date.len() == 8 && time.len() == 6 && all_digits(date) && all_digits(time))
        .then(|| (format!("{date}{time}"), number))
}
