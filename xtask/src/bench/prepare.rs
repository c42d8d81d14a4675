//! The row `prepare` of `cargo xtask bench data`.
//!
//! No peer does all of it: the row is what it does with 10, 100 and 1,000 MB, where the time must grow as the input and
//! the memory must not.

use std::path::Path;

use anyhow::{Context, Result};

use super::data::Setup;
use super::{number, records};
use crate::cargo::command;

/// The whole pipeline on growing inputs.
pub(super) fn prepare(setup: &Setup, scratch: &Path) -> Result<()> {
    let threads = setup.options.threads.to_string();
    println!("prepare (read, filter, near duplicates, tokenize, join), {threads} threads");
    for megabytes in ["10", "100", "1000"] {
        let folder = scratch.join("prepare");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let mut program = command(&setup.program, Some(&setup.libtorch));
        program.args(["bench", "prepare", "--megabytes", megabytes, "--threads", &threads, "--input"]);
        program.arg(&setup.corpus).arg("--tokenizer").arg(setup.options.tokenizers.join("llama2"));
        program.arg("--scratch").arg(&folder);
        let record = records(&mut program)?.swap_remove(0);
        println!(
            "  {megabytes:>5} MB {:>8.1} s {:>8.1} MB/s {:>8.1} MB/s of processor time, peak memory {:.0} MB",
            number(&record, "seconds")?,
            number(&record, "wall_mb_s")?,
            number(&record, "cpu_mb_s")?,
            number(&record, "peak_bytes")? / 1e6
        );
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}
