//! Where both programs look for the sources that a recipe names.

use std::path::PathBuf;

use llama_pro_corpus::{Environment, Lockfile};

/// The pinned dependencies of these programs: the texts of the miniature come from them.
const LOCKFILE: &str = include_str!("../../../Cargo.lock");

/// Relative paths start in `base_dir`; crates are looked for in cargo's own folder, in the versions that are pinned here.
pub fn environment(base_dir: PathBuf) -> Environment {
    let home = |name| std::env::var_os(name).map(PathBuf::from);
    let cargo_home = home("CARGO_HOME").or_else(|| home("HOME").map(|h| h.join(".cargo")));
    Environment { base_dir, cargo_home, lockfile: Some(Lockfile::embedded(LOCKFILE)), vendor: None }
}
