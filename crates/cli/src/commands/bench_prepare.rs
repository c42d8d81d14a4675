//! `bench prepare`: the whole of `prepare` (read, filter, find near duplicates, tokenize, join) on inputs of growing
//! size, from a cold work folder each time.
//!
//! Larger inputs are made from the given documents, over and over; in every copy, about one word in five is replaced by
//! one that is made of a fixed seed, the copy and the word's place, so that copies are no near duplicates of each other.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use llama_pro_cli::progress;
use llama_pro_corpus::{CorpusRecipe, Environment, Job, prepare_corpus};
use llama_pro_text::Tokenizer;
use serde_json::json;

use super::bench::{cpu_time, read_texts};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A file of {"text": …} lines.
    #[arg(long, value_name = "F")]
    input: PathBuf,
    /// A folder with tokenizer.json or tokenizer.model.
    #[arg(long, value_name = "DIR")]
    tokenizer: PathBuf,
    /// An empty folder for inputs and outputs.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// Megabytes of text.
    #[arg(long, value_name = "MB", default_value_t = 30)]
    megabytes: u64,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(usize::from(args.threads)).build_global()?;
    let tokenizer = Tokenizer::from_dir(&args.tokenizer)?;
    let folder = args.scratch.join("in");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let bytes = grow(&args.input, &folder, args.megabytes * 1_000_000)?;
    let mut recipe: CorpusRecipe = toml(&folder, &args.scratch.join("out"))?;
    recipe.tokenizer = args.tokenizer.display().to_string();
    let cancel = AtomicBool::new(false);
    let environment = Environment::default();
    let before = progress::peak_memory();
    let (started, used) = (Instant::now(), cpu_time());
    let corpus = prepare_corpus(&Job {
        recipe: &recipe,
        environment: &environment,
        tokenizer: &tokenizer,
        force: true,
        cancel: &cancel,
        progress: &|_| {},
    })?;
    let (wall, cpu) = (started.elapsed().as_secs_f64(), (cpu_time().saturating_sub(used)).as_secs_f64());
    let mb = bytes as f64 / 1e6;
    let (seen, kept, dropped, failed) = corpus.report.totals();
    let record = json!({
        "method": "llama-pro",
        "threads": args.threads,
        "mb": mb,
        "docs": seen,
        "kept": kept,
        "dropped": dropped,
        "failed": failed,
        "tokens": corpus.report.sources.iter().map(|source| source.train.tokens).sum::<u64>(),
        "seconds": wall,
        "wall_mb_s": mb / wall,
        "cpu_mb_s": mb / cpu,
        "peak_bytes_before": before,
        "peak_bytes": progress::peak_memory(),
    });
    println!("{record}");
    Ok(())
}

fn toml(input: &Path, out: &Path) -> Result<CorpusRecipe> {
    let text = format!(
        "out = {:?}\ntokenizer = \"given\"\n[dedup.near]\n[[sources]]\nname = \"code\"\n[sources.filters]\n\
         generated = true\nstarcoder2 = true\nencoded = true\npii = true\n[sources.source]\nkind = \"jsonl\"\n\
         path = {:?}\n",
        out.display().to_string(),
        input.display().to_string()
    );
    Ok(llama_pro_run::load_recipe::<CorpusRecipe>(Path::new("bench"), &text, &[])?.0)
}

/// Writes at least so many bytes of text as JSON lines, 32 MB a file; gives the exact number.
fn grow(input: &Path, folder: &Path, wanted: u64) -> Result<u64> {
    let texts = read_texts(input)?;
    if texts.iter().all(String::is_empty) {
        bail!("{}: no text", input.display());
    }
    let (mut total, mut in_file) = (0u64, 0u64);
    let mut file: Option<BufWriter<File>> = None;
    let mut number = 0;
    for copy in 0u64.. {
        for text in &texts {
            if total >= wanted {
                break;
            }
            let text = if copy == 0 { text.clone() } else { edited(text, copy) };
            if file.is_none() || in_file > 32_000_000 {
                let path = folder.join(format!("part-{number:04}.jsonl"));
                file = Some(BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?));
                (number, in_file) = (number + 1, 0);
            }
            total += text.len() as u64;
            in_file += text.len() as u64;
            if let Some(file) = &mut file {
                serde_json::to_writer(&mut *file, &json!({ "text": text }))?;
                file.write_all(b"\n")?;
            }
        }
        if total >= wanted {
            break;
        }
    }
    if let Some(file) = &mut file {
        file.flush()?;
    }
    Ok(total)
}

/// A fifth of the words of at least three letters become others.
fn edited(text: &str, copy: u64) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut state = copy.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphabetic()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
        state = (state ^ word.len() as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        state ^= state >> 29;
        if word.len() < 3 || !state.is_multiple_of(5) {
            out.push_str(piece);
            continue;
        }
        for i in 0..4 {
            out.push(char::from(b'a' + (state >> (16 + 8 * i)) as u8 % 26));
        }
        out.push_str(&piece[word.len()..]);
    }
    out
}
