//! Which libtorch is used: `LIBTORCH`, else the torch 2.11.0 of the python3 on PATH, else the cache, which is
//! filled if need be.
//!
//! The answer is always a canonical path, because torch-sys compiles anew (minutes) for every other spelling.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::error::Exit;
use crate::fetch::{Fetch, pip_words, staging};
use crate::host::Host;
use crate::layout::{self, VERSION};
use crate::manifest;
use crate::pins::{self, Pins, pins};
use crate::probe;
use crate::progress::Progress;
use crate::python::Python;

/// A libtorch that can be built against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Libtorch {
    /// The folder with `include/` and `lib/`, canonical.
    pub(crate) root: PathBuf,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// Where a libtorch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The variable `LIBTORCH`.
    Variable,
    /// A torch that this python3 has installed.
    Python(PathBuf),
    /// This folder of the cache.
    Cache(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => f.write_str("from LIBTORCH"),
            Self::Python(python) => write!(f, "the torch of {}", python.display()),
            Self::Cache(_) => f.write_str("from the cache"),
        }
    }
}

/// What is asked of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Want {
    /// Only one with CUDA will do.
    pub(crate) cuda: bool,
}

/// Finds libtorch, or fetches it.
///
/// # Errors
/// A wrong `LIBTORCH` (exit code 2); nothing there and nothing to be had.
pub(crate) fn locate(host: &Host, want: Want) -> Result<Libtorch> {
    let mut progress = Progress::stderr();
    match find(host, want, &|root| probe::remembered(host, root))? {
        Found::Here(libtorch) => return Ok(libtorch),
        Found::Missing(notes) => notes.iter().for_each(|note| progress.say(note)),
    }
    fetch(host, want, &mut progress)
}

/// The outcome of looking without fetching.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Here(Libtorch),
    /// Nothing that can be used, and why what was seen cannot.
    Missing(Vec<String>),
}

/// The order of the search. `links` tells whether a torch installed by others links and loads here.
fn find(host: &Host, want: Want, links: &dyn Fn(&Path) -> Result<(), String>) -> Result<Found> {
    if let Some(root) = &host.libtorch {
        return variable(root, want).map(Found::Here);
    }
    let mut notes = Vec::new();
    if let Some(python) = &host.python
        && let Some(torch) = Python(python.clone()).torch()
    {
        let usable = if torch.release() != VERSION {
            Err(format!("it is {}, and tch needs {VERSION}", torch.version))
        } else if want.cuda && !layout::has_cuda(&torch.folder) {
            Err("it is the one without CUDA".to_owned())
        } else {
            layout::check(&torch.folder).and_then(|()| links(&torch.folder))
        };
        match usable {
            Ok(()) => {
                let root = canonical(&torch.folder)?;
                return Ok(Found::Here(Libtorch { root, origin: Origin::Python(python.clone()) }));
            }
            Err(why) => notes.push(format!("the torch of {} is not used: {why}", python.display())),
        }
    }
    if let Some(cache) = &host.cache {
        // Whoever has asked for CUDA once wants it from then on.
        for (name, inside) in [(pins::CUDA, "torch"), (pins::CPU, "")] {
            if want.cuda && name != pins::CUDA {
                continue;
            }
            match cached(&cache.join(name), inside) {
                Ok(None) => {}
                Ok(Some(libtorch)) => return Ok(Found::Here(libtorch)),
                Err(why) => notes.push(format!("the libtorch in the cache is damaged: {why:#}")),
            }
        }
    }
    Ok(Found::Missing(notes))
}

/// The libtorch that `LIBTORCH` names. It is the user's word, so a wrong one is an error, not a reason to look on.
fn variable(root: &Path, want: Want) -> Result<Libtorch> {
    layout::check(root).map_err(|why| Exit::Usage(format!("LIBTORCH: {why}")))?;
    if want.cuda && !layout::has_cuda(root) {
        bail!(Exit::Usage(format!("LIBTORCH: {} is a libtorch without CUDA: unset it", root.display())));
    }
    Ok(Libtorch { root: canonical(root)?, origin: Origin::Variable })
}

/// A folder of the cache: none, a good one, or why it is damaged. One without a manifest was put there by hand, as
/// the way out below offers; it gets a manifest and is used from then on.
fn cached(home: &Path, inside: &str) -> Result<Option<Libtorch>> {
    if !home.exists() {
        return Ok(None);
    }
    let root = if inside.is_empty() { home.to_path_buf() } else { home.join(inside) };
    let by_hand = match manifest::check(home, false) {
        Some(outcome) => outcome.map(|()| false)?,
        None => true,
    };
    match layout::check(&root) {
        Ok(()) => {}
        // What the user has put there is the user's to take away.
        Err(why) if by_hand => bail!(Exit::Usage(format!("{why}: remove {}", home.display()))),
        Err(why) => bail!("{why}"),
    }
    if by_hand {
        // A cache that cannot be written to can still be read.
        let _ = manifest::write(home);
    }
    Ok(Some(Libtorch { root: canonical(&root)?, origin: Origin::Cache(home.to_path_buf()) }))
}

/// Fills the cache.
fn fetch(host: &Host, want: Want, progress: &mut Progress) -> Result<Libtorch> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let pins = pins(os, arch, want.cuda);
    let outcome = match (&host.cache, &pins) {
        (_, None) => Err(anyhow!("no libtorch {VERSION} is known for {arch} {os}{}", cuda_note(want))),
        (None, _) => Err(anyhow!("neither HOME nor XDG_CACHE_HOME is set, so there is no cache folder")),
        (Some(cache), Some(pins)) => fill(host, cache, pins, progress),
    };
    outcome.map_err(|error| {
        // A mistake of the user is said as it is; the ways out are for a machine that lacks something.
        if error.downcast_ref::<Exit>().is_some() {
            return error;
        }
        anyhow!("{}", ways_out(&format!("{error:#}"), host.cache.as_deref(), pins.as_ref()))
    })
}

fn cuda_note(want: Want) -> &'static str {
    if want.cuda { " with CUDA" } else { "" }
}

fn fill(host: &Host, cache: &Path, pins: &Pins, progress: &mut Progress) -> Result<Libtorch> {
    let home = cache.join(pins.name);
    if home.exists() && !home.join(manifest::NAME).exists() {
        cached(&home, pins.inside)?;
    }
    let python = host.python.clone().map(Python).context("there is no python3 on PATH")?;
    python.pip().map_err(anyhow::Error::msg)?;
    let compiler = host.compiler.as_deref().context(probe::NO_COMPILER)?;
    let accept = |root: &Path| {
        layout::check(root)?;
        probe::probe(Some(compiler), root).map_err(|why| format!("the libtorch for this system {why}"))
    };
    let ready = || matches!(cached(&home, pins.inside), Ok(Some(_)));
    Fetch { cache, pins, python: &python, accept: &accept, ready: &ready }.run(progress)?;
    cached(&home, pins.inside)?.with_context(|| format!("{} has gone again", home.display()))
}

/// What to say when no libtorch can be had: the reason, and what the user can do.
fn ways_out(reason: &str, cache: Option<&Path>, pins: Option<&Pins>) -> String {
    let mut text = format!(
        "libtorch {VERSION} is not here and could not be fetched: {reason}\nThere are three ways out:\n  \
         1. export LIBTORCH=FOLDER, a folder with include/ and lib/ of libtorch {VERSION}\n  \
         2. python3 -m pip install torch=={VERSION}, in the python3 that is first on PATH\n  \
         3. "
    );
    match (cache, pins) {
        (Some(cache), Some(pins)) => {
            let wheels: Vec<String> = pins.wheels.iter().map(pins::Wheel::requirement).collect();
            text.push_str(&format!(
                "on a machine with network run\n       python3 {} --dest wheels {}\n     copy the wheels into \
                 {}/ and run `cargo xtask setup` again",
                pip_words(&pins.platforms).join(" "),
                wheels.join(" "),
                staging(cache, pins).join("wheels").display(),
            ));
        }
        _ => text.push_str(&format!("build libtorch {VERSION} from source and set LIBTORCH to it")),
    }
    text
}

/// Reads every library again and compares digests; a libtorch that is not xtask's own has no manifest.
pub(crate) fn verify(libtorch: &Libtorch) -> Result<()> {
    match &libtorch.origin {
        Origin::Cache(home) => manifest::check(home, true)
            .unwrap_or(Ok(()))
            .with_context(|| format!("damaged: remove {} and run `cargo xtask setup`", home.display())),
        _ => {
            Progress::stderr()
                .say("only the version and the files were checked: this libtorch is not xtask's");
            Ok(())
        }
    }
}

/// One spelling for one folder.
fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("resolving {}", path.display()))
}

#[cfg(test)]
#[path = "libtorch_tests.rs"]
mod tests;
