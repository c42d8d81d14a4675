//! Fills the cache: wheels by pip, each checked against its pinned digest, unpacked beside the place where the
//! folder will stand and renamed into it.
//!
//! What can go wrong is met like this. Killed at any moment: finished wheels lie in `NAME.partial/wheels` and are
//! checked again by the next run; the final folder appears only whole. Two at once: a lock file, and the second
//! waits. Wheels brought by hand into that folder are taken like fetched ones.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::layout::library;
use crate::manifest;
use crate::pins::{Pins, Wheel};
use crate::progress::Progress;
use crate::python::Python;

/// All that a fetch needs.
pub(crate) struct Fetch<'a> {
    /// The folder `llama-pro` in the user's cache.
    pub(crate) cache: &'a Path,
    /// What to fetch.
    pub(crate) pins: &'a Pins,
    /// Whose pip fetches it.
    pub(crate) python: &'a Python,
    /// Is the unpacked libtorch good? Asked before it gets its name.
    pub(crate) accept: &'a dyn Fn(&Path) -> Result<(), String>,
    /// Is the final folder there and whole? Asked when the lock is held.
    pub(crate) ready: &'a dyn Fn() -> bool,
}

impl Fetch<'_> {
    /// Fetches, unless another process has done so while this one waited.
    ///
    /// # Errors
    /// What failed, in one line; the folder is then as it was.
    pub(crate) fn run(&self, progress: &mut Progress) -> Result<()> {
        fs::create_dir_all(self.cache).with_context(|| format!("making {}", self.cache.display()))?;
        let path = self.cache.join(format!("{}.lock", self.pins.name));
        let lock = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.say("another process is getting libtorch: waiting for it");
                lock.lock().with_context(|| format!("locking {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        if (self.ready)() {
            return Ok(());
        }
        let staging = staging(self.cache, self.pins);
        let wheels = self.wheels(&staging, progress)?;
        let tree = self.unpack(&staging, &wheels, progress)?;
        let home = self.cache.join(self.pins.name);
        if home.exists() {
            // It was found damaged. Set aside first: a rename onto a folder that holds files is refused.
            fs::rename(&home, staging.join("damaged"))?;
        }
        fs::rename(&tree, &home).with_context(|| format!("naming {}", home.display()))?;
        File::open(self.cache)?.sync_all()?;
        // libtorch stands: what cannot be cleared away is no failure of it.
        if let Err(error) = fs::remove_dir_all(&staging) {
            progress.say(&format!("{} could not be cleared: {error}", staging.display()));
        }
        Ok(())
    }

    /// Every wheel, fetched where it is not there yet.
    fn wheels(&self, staging: &Path, progress: &mut Progress) -> Result<Vec<PathBuf>> {
        let folder = staging.join("wheels");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut there = 0;
        for wheel in &self.pins.wheels {
            let file = folder.join(&wheel.file);
            if file.exists() {
                match check(&file, wheel) {
                    Ok(()) => there += wheel.bytes,
                    Err(error) => {
                        progress.say(&format!("{error:#}: fetching it again"));
                        fs::remove_file(&file)?;
                    }
                }
            }
        }
        progress.start(&format!("fetching {}", self.pins.name), self.pins.bytes(), there);
        for wheel in &self.pins.wheels {
            if !folder.join(&wheel.file).exists() {
                self.wheel(staging, wheel, there, progress)?;
                there += wheel.bytes;
            }
            progress.at(there);
        }
        progress.finish();
        Ok(self.pins.wheels.iter().map(|wheel| folder.join(&wheel.file)).collect())
    }

    /// One wheel by pip, into a fresh folder, checked and only then moved among the finished ones.
    fn wheel(&self, staging: &Path, wheel: &Wheel, before: u64, progress: &mut Progress) -> Result<()> {
        // A name of this process: the pip of a run that was killed may still be writing into its own.
        let work = fresh(&staging.join(format!("pip-{}", std::process::id())))?;
        let (temporary, out, log) = (work.join("tmp"), work.join("out"), work.join("log"));
        fs::create_dir(&temporary)?;
        let list = work.join("requirements.txt");
        fs::write(&list, format!("{} --hash=sha256:{}\n", wheel.requirement(), wheel.sha256))?;
        let mut pip = self.python.command();
        pip.args(pip_words(&self.pins.platforms)).args(["--quiet", "--no-input", "--progress-bar", "off"]);
        pip.args(["--disable-pip-version-check", "--require-hashes", "--requirement"]).arg(&list);
        pip.arg("--dest").arg(&out);
        // pip's own temporary file is what shows how far it is.
        pip.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut child = pip.spawn().with_context(|| format!("starting {}", self.python.0.display()))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            progress.at(before + largest(&work).min(wheel.bytes));
            std::thread::sleep(Duration::from_millis(100));
        };
        if !status.success() {
            bail!("pip could not fetch {}: {}", wheel.requirement(), last_words(&log));
        }
        let file = out.join(&wheel.file);
        if !file.exists() {
            bail!("pip fetched {}, and not {}", names(&out), wheel.file);
        }
        check(&file, wheel)?;
        File::open(&file)?.sync_all()?;
        fs::rename(&file, staging.join("wheels").join(&wheel.file))?;
        fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))
    }

    /// The tree as it will stand, with its manifest, checked.
    fn unpack(&self, staging: &Path, wheels: &[PathBuf], progress: &mut Progress) -> Result<PathBuf> {
        let tree = fresh(&staging.join("tree"))?;
        let log = staging.join("unpack.log");
        let mut command = self.python.command();
        command.args(["-c", include_str!("unpack.py")]).arg(&tree);
        for (wheel, file) in self.pins.wheels.iter().zip(wheels) {
            command.arg(file).arg(wheel.members.len().to_string());
            command.args(wheel.members.iter().flat_map(|member| member.rule()));
        }
        run_counted(command.stderr(File::create(&log)?), progress)
            .with_context(|| format!("unpacking: {}", last_words(&log)))?;
        let root = tree.join(self.pins.inside);
        if self.pins.linker_script {
            fs::write(root.join("lib").join(library("torch")), "INPUT(libtorch_cpu.so)\n")?;
        }
        (self.accept)(&root).map_err(anyhow::Error::msg)?;
        manifest::write(&tree)?;
        Ok(tree)
    }
}

/// The folder of the unfinished; wheels brought by hand belong into its `wheels`.
pub(crate) fn staging(cache: &Path, pins: &Pins) -> PathBuf {
    cache.join(format!("{}.partial", pins.name))
}

/// The words of the pip call that do not name a place: also shown to a user who must run it elsewhere.
pub(crate) fn pip_words(platforms: &[String]) -> Vec<String> {
    let words = "-m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp";
    let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    for platform in platforms {
        words.extend(["--platform".to_owned(), platform.clone()]);
    }
    words
}

fn check(file: &Path, wheel: &Wheel) -> Result<()> {
    let (found, bytes) = manifest::digest(file)?;
    if (bytes, &found) != (wheel.bytes, &wheel.sha256) {
        let (expected, size) = (&wheel.sha256, wheel.bytes);
        bail!("{} has {bytes} bytes, sha256 {found}; expected {size}, {expected}", file.display());
    }
    Ok(())
}

/// Runs unpack.py, which prints numbers of bytes.
fn run_counted(command: &mut Command, progress: &mut Progress) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no output of the child")?;
    let mut total = None;
    for line in BufReader::new(output).lines() {
        let Ok(bytes) = line?.trim().parse() else { continue };
        match total {
            None => {
                total = Some(bytes);
                progress.start("unpacking libtorch", bytes, 0);
            }
            Some(_) => progress.at(bytes),
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{status}");
    }
    progress.finish();
    Ok(())
}

/// An empty folder; what an interrupted run left there goes.
fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.to_path_buf())
}

/// The size of the largest file under a folder. pip writes a wheel and its cache entry side by side, so a sum would
/// count the bytes twice.
fn largest(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => largest(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

/// The last lines of a log that say something.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

fn names(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
