//! `bench tokenize`: the documents of a JSONL file to ids, several times over. The record has the keys of
//! tests/peers/tokbench.py.
//!
//! Every pass begins with no piece remembered, as a run over a corpus does; the figure is the median of the passes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use llama_pro_text::Tokenizer;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder with tokenizer.json or tokenizer.model.
    #[arg(long, value_name = "DIR")]
    tokenizer: PathBuf,
    /// A file of {"text": …} lines.
    #[arg(long, value_name = "F")]
    input: PathBuf,
    /// Threads, each with documents of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Passes over the file.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    passes: u16,
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

#[derive(Serialize)]
struct Record<'a> {
    tok: &'a Path,
    method: &'a str,
    path: String,
    threads: u16,
    corpus: &'a Path,
    docs: usize,
    mb: f64,
    tokens: usize,
    wall_mb_s: f64,
    cpu_mb_s: f64,
    cpu_ktok_s: f64,
    wall_ktok_s: f64,
    min_wall_mb_s: f64,
    ids_sha: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tokenizer = Tokenizer::from_dir(&args.tokenizer)?;
    let texts = read(&args.input)?;
    let bytes: usize = texts.iter().map(String::len).sum();
    let (mut wall, mut cpu, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.passes {
        drop(std::mem::take(&mut ids));
        let (started, used) = (Instant::now(), cpu_time());
        ids = encode(&tokenizer, &texts, usize::from(args.threads))?;
        wall.push(started.elapsed().as_secs_f64());
        cpu.push(cpu_time().saturating_sub(used).as_secs_f64());
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let (wall, least, cpu) = (wall[wall.len() / 2], wall[0], cpu[cpu.len() / 2]);
    let mut hash = Sha1::new();
    for &id in ids.iter().flatten() {
        hash.update(id.to_le_bytes());
    }
    let hash = hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let (mb, tokens) = (bytes as f64 / 1e6, ids.iter().map(Vec::len).sum::<usize>());
    let rounded = |x: f64| (x * 100.0).round() / 100.0;
    let record = Record {
        tok: &args.tokenizer,
        method: "llama-pro",
        path: tokenizer.encoding_path().to_string(),
        threads: args.threads,
        corpus: &args.input,
        docs: texts.len(),
        mb: rounded(mb),
        tokens,
        wall_mb_s: rounded(mb / wall),
        cpu_mb_s: rounded(mb / cpu),
        cpu_ktok_s: rounded(tokens as f64 / 1e3 / cpu),
        wall_ktok_s: rounded(tokens as f64 / 1e3 / wall),
        min_wall_mb_s: rounded(mb / least),
        ids_sha: hash,
    };
    println!("{}", serde_json::to_string(&record)?);
    Ok(())
}

fn read(path: &Path) -> Result<Vec<String>> {
    let content = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut texts = Vec::new();
    for (number, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("{} line {}", path.display(), number + 1))?;
        texts.push(line.text);
    }
    if texts.is_empty() {
        bail!("{}: no documents", path.display());
    }
    Ok(texts)
}

/// Ids of every document in their order. A thread takes the next few documents when it is done with its last.
fn encode(tokenizer: &Tokenizer, texts: &[String], threads: usize) -> Result<Vec<Vec<u32>>> {
    const FEW: usize = 16;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Vec<u32>)>> {
        let mut encoder = tokenizer.encoder();
        let mut done = Vec::new();
        loop {
            let first = next.fetch_add(FEW, Ordering::Relaxed);
            let Some(rest) = texts.get(first..).filter(|rest| !rest.is_empty()) else { return Ok(done) };
            for (number, text) in (first..).zip(rest.iter().take(FEW)) {
                done.push((number, encoder.encode(text)?));
            }
        }
    };
    let mut ids = vec![Vec::new(); texts.len()];
    let parts: Vec<Result<_>> = match threads {
        1 => vec![work()],
        _ => std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            // A panic of a thread is a panic of this one.
            all.into_iter()
                .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        }),
    };
    for part in parts {
        for (number, found) in part? {
            ids[number] = found;
        }
    }
    Ok(ids)
}

/// Of all threads of this process, user and system.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
