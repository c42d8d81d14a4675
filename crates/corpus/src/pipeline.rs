//! `prepare`: raw corpora to token shards, out of core, resumable, and with an account of every document.
//!
//! Four stages. Every part of the input is read, filtered and left on disk with its hashes (`read`). Equal hashes
//! over all parts say which documents are duplicates (`dedup`). What is left of each part is tokenised (`tokens`).
//! The tokens of a source's parts are joined into its shards (`finish`), and shards.json is written last. A finished
//! part has a name made of its inputs and parameters, so a later run finds it, and after a change only the parts
//! that it concerns are made anew. The bytes of every output depend on inputs, recipe and tokenizer alone.

mod account;
mod finish;
mod flow;
mod hashes;
mod lines;
mod parts;
mod read;
mod recipe;
mod store;
mod tokens;
mod work;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use llama_pro_shards::{Boundaries, RECORD_FORMAT, ShardsRecord};
use llama_pro_text::{Fim, Tokenizer};
use serde_json::{Map, Value};

use crate::decontaminate::Decontaminator;
use crate::dedup::{self, MinHash};
use crate::error::{Error, Result};
use crate::filter::Aids;
use crate::report::CorpusReport;
use crate::source::Environment;
use hashes::PartHashes;
use lines::RepeatedLines;
use parts::Part;
use read::Shown;
pub use read::{Contamination, Example};
pub use recipe::{CorpusRecipe, CorpusSource, SplitOptions, Training};
use tokens::TokenRecord;

/// The record of a finished part.
const PART_RECORD: &str = "part.json";

/// The report's file name.
const REPORT: &str = "report.json";

/// One run of `prepare`.
pub struct Job<'a> {
    /// What to do.
    pub recipe: &'a CorpusRecipe,
    /// Where sources are looked for.
    pub environment: &'a Environment,
    /// Makes the ids.
    pub tokenizer: &'a Tokenizer,
    /// Forget what earlier runs left, and do everything anew.
    pub force: bool,
    /// Raised by whoever wants the run to stop; the next run goes on.
    pub cancel: &'a AtomicBool,
    /// Told of every finished part.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Parts, or sources when joining.
    pub done: u64,
    /// How many there are.
    pub all: u64,
}

/// The stages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading and filtering.
    Read,
    /// Looking for duplicates.
    Deduplicate,
    /// Tokenising.
    Tokenize,
    /// Joining parts into shards.
    Join,
}

/// What a run leaves.
pub struct Corpus {
    /// The output folder.
    pub out: PathBuf,
    /// What came in and what became of it.
    pub report: CorpusReport,
    /// Everything was there already and nothing was written.
    pub reused: bool,
}

/// What all stages need.
struct Context<'a> {
    recipe: &'a CorpusRecipe,
    tokenizer: &'a Tokenizer,
    boundaries: Boundaries,
    fim: Option<Fim>,
    minhash: Option<MinHash>,
    decontaminator: Option<Decontaminator>,
    aids: Vec<Aids>,
    out: &'a Path,
    work: PathBuf,
    cancel: &'a AtomicBool,
}

impl Context<'_> {
    fn benchmark_digest(&self) -> &str {
        self.decontaminator.as_ref().map_or("", Decontaminator::digest)
    }

    /// What turns the documents of a source.
    fn fim(&self, source: usize) -> Option<&Fim> {
        self.fim.as_ref().filter(|_| self.recipe.sources[source].fim)
    }

    /// What decides over the documents of a source besides themselves and the recipe.
    fn outside(&self, source: usize) -> parts::Outside<'_> {
        let asks_tokenizer = self.recipe.sources[source].filters.asks_tokenizer();
        parts::Outside {
            benchmarks: self.benchmark_digest(),
            aids: self.aids[source].digest(),
            tokenizer: if asks_tokenizer { self.tokenizer.digest() } else { "" },
        }
    }
}

/// Prepares a corpus, or finds it prepared.
///
/// # Errors
/// For a recipe that cannot be; for inputs that cannot be read, unless the recipe says `on-error = "skip"`; for a
/// source of which nothing is left; for an output folder that cannot be written; and [`Error::Stopped`].
pub fn prepare_corpus(job: &Job<'_>) -> Result<Corpus> {
    let recipe = job.recipe;
    recipe.check()?;
    let boundaries = boundaries(job)?;
    let fim = recipe.fim.clone().map(|options| Fim::new(job.tokenizer, options)).transpose();
    let fim = fim.map_err(Error::Fim)?;
    let out = job.environment.resolve(&recipe.out);
    refuse_others(&out)?;
    std::fs::create_dir_all(&out).map_err(Error::io("create", &out))?;
    let _lock = lock(&out)?;
    let work = out.join("work");
    for kind in ["parts", "tokens"] {
        let pieces = work.join(kind);
        if job.force && pieces.exists() {
            std::fs::remove_dir_all(&pieces).map_err(Error::io("remove", &pieces))?;
        }
        work::sweep(&pieces)?;
    }
    let decontaminator = recipe.decontaminate.as_ref();
    let context = Context {
        recipe,
        tokenizer: job.tokenizer,
        boundaries,
        fim,
        minhash: recipe.dedup.near.as_ref().map(MinHash::new),
        decontaminator: decontaminator.map(|d| Decontaminator::load(d, job.environment)).transpose()?,
        aids: recipe.sources.iter().map(|s| Aids::of(s, job.environment)).collect::<Result<_>>()?,
        out: &out,
        work,
        cancel: job.cancel,
    };
    let mut parts = parts::list(recipe, job.environment)?;
    if !job.force
        && let Some(report) = prepared(&context, &mut parts)?
    {
        return Ok(Corpus { out, report, reused: true });
    }
    let told = |stage, done: usize, all: usize| {
        (job.progress)(Progress { stage, done: done as u64, all: all as u64 });
    };
    let mut records = Vec::new();
    let mut shown = Shown::new(&parts);
    let all = parts.len();
    for part in &mut parts {
        told(Stage::Read, records.len(), all);
        let mut record = read::part(&context, part)?;
        shown.trim(part.source, &mut record);
        records.push(record);
        // Its files are done with; a corpus may have many millions.
        part.listing.files = Vec::new();
    }
    told(Stage::Deduplicate, 0, 1);
    let hashes = PartHashes::new(&records)?;
    let groups = dedup::find(&hashes, &recipe.dedup)?;
    let mut account = account::Account::new(&context, &parts, &records, &groups)?;
    let mut tokens: Vec<Vec<TokenRecord>> = recipe.sources.iter().map(|_| Vec::new()).collect();
    let mut lines: Option<(usize, RepeatedLines<'_>)> = None;
    for (number, (part, record)) in parts.iter().zip(&records).enumerate() {
        told(Stage::Tokenize, number, all);
        // The parts of a source come together, so the bits of one source at a time are in memory.
        if let Some(rule) = recipe.sources[part.source].line_dedup.get()
            && lines.as_ref().is_none_or(|(source, _)| *source != part.source)
        {
            let memory = recipe.dedup.memory;
            let found = RepeatedLines::find(rule, part.source, &parts, &records, &groups, memory)?;
            lines = Some((part.source, found));
        }
        let lines = lines.as_ref().filter(|(source, _)| *source == part.source);
        let lines = lines.map(|(_, found)| found.part(number));
        let first = hashes.firsts[number] as usize;
        let fates = &groups.fates[first..first + record.counts.kept as usize];
        tokens[part.source].push(tokens::part(&context, part.source, record, fates, lines)?);
    }
    // What cannot be is refused while the corpus that was there is whole.
    for (index, parts) in tokens.iter().enumerate() {
        let of = |side: usize| parts.iter().map(|part| part.sides[side].documents).sum();
        account.has_both_sides(index, [of(0), of(1)])?;
    }
    // Without its record the folder is not a prepared corpus, until it is whole again.
    let old = out.join(llama_pro_shards::RECORD_NAME);
    if old.exists() {
        let before = ShardsRecord::read(&out).ok().flatten();
        std::fs::remove_file(&old).map_err(Error::io("remove", &old))?;
        before.map_or(Ok(()), |before| finish::remove_others(&context, &before))?;
    }
    work::remove_partials(&out)?;
    let mut shards = Vec::new();
    for (index, parts) in tokens.iter().enumerate() {
        told(Stage::Join, index, tokens.len());
        let joined = finish::source(&context, index, parts)?;
        account.joined(index, &joined)?;
        shards.extend(joined.shards);
    }
    let fingerprint = fingerprint(&context, records.iter().map(|record| record.key.as_str()))?;
    let (report, sources) = account.close(&fingerprint)?;
    report.write(&out)?;
    let record = ShardsRecord {
        format: RECORD_FORMAT.to_owned(),
        tokenizer: job.tokenizer.digest().to_owned(),
        vocab_size: job.tokenizer.vocab_size(),
        boundaries,
        parameters: parameters(&context, fingerprint)?,
        sources,
        shards,
    };
    record.write(&out)?;
    if !recipe.keep_work {
        for kind in ["parts", "tokens"] {
            let pieces = context.work.join(kind);
            if pieces.exists() {
                std::fs::remove_dir_all(&pieces).map_err(Error::io("remove", &pieces))?;
            }
        }
        // Where somebody has put something of their own there, it stays.
        let _ = std::fs::remove_dir(&context.work);
    }
    Ok(Corpus { out, report, reused: false })
}

/// The report of an earlier run, when everything is as it would be written now.
fn prepared(context: &Context<'_>, parts: &mut [Part]) -> Result<Option<CorpusReport>> {
    let Ok(Some(record)) = ShardsRecord::read(context.out) else { return Ok(None) };
    let mut keys = Vec::new();
    for part in parts {
        let source = &context.recipe.sources[part.source];
        keys.push(parts::key(context.recipe, source, &context.outside(part.source), part)?.key);
    }
    let fingerprint = fingerprint(context, keys.iter().map(String::as_str))?;
    if record.parameters.get("fingerprint").and_then(Value::as_str) != Some(&fingerprint) {
        tracing::info!("inputs or parameters have changed; what they concern is made anew");
        return Ok(None);
    }
    if let Err(error) = record.verify(context.out) {
        tracing::warn!("{error}; made anew");
        return Ok(None);
    }
    let report: Result<CorpusReport> = work::read_json(&context.out.join(REPORT));
    Ok(report.ok().filter(|report| report.fingerprint == fingerprint))
}

/// One hash over everything that decides the bytes of the outputs.
fn fingerprint<'a>(context: &Context<'_>, keys: impl Iterator<Item = &'a str>) -> Result<String> {
    let json = |source| Error::Json { what: "the recipe", source };
    let mut hasher = blake3::Hasher::new();
    keys.for_each(|key| {
        hasher.update(key.as_bytes());
    });
    let rest = (
        "llama-pro corpus 2",
        parameters(context, String::new())?,
        context.tokenizer.digest(),
        context.tokenizer.vocab_size(),
        context.boundaries,
    );
    hasher.update(&serde_json::to_vec(&rest).map_err(json)?);
    Ok(format!("blake3:{}", hasher.finalize().to_hex()))
}

/// The recipe as shards.json has it: without what decides only where things lie and how the work is done.
fn parameters(context: &Context<'_>, fingerprint: String) -> Result<Map<String, Value>> {
    let recipe = context.recipe;
    let json = |source| Error::Json { what: "the recipe", source };
    let mut value = serde_json::to_value(recipe).map_err(json)?;
    let mut map = Map::new();
    map.insert("fingerprint".to_owned(), fingerprint.into());
    map.insert("split-seed".to_owned(), recipe.split.seed.into());
    map.insert(
        "hashes".to_owned(),
        "the first 16 bytes of blake3 of the text, read as a little-endian number, \
        written big-endian"
            .into(),
    );
    if let Some([prefix, suffix, middle]) = context.fim.as_ref().map(Fim::ids) {
        let ids = serde_json::json!({ "prefix": prefix, "suffix": suffix, "middle": middle });
        map.insert("fim-ids".to_owned(), ids);
    }
    if let Some(object) = value.as_object_mut() {
        for key in ["out", "tokenizer", "part-bytes", "keep-work"] {
            object.remove(key);
        }
        let sources = recipe.sources.iter().map(parts::without_places).collect::<Result<Vec<_>>>()?;
        object.insert("sources".to_owned(), sources.into());
        if let Some(decontaminate) = &recipe.decontaminate {
            let without = serde_json::to_value(decontaminate.without_places()).map_err(json)?;
            object.insert("decontaminate".to_owned(), without);
        }
        if let Some(dedup) = object.get_mut("dedup").and_then(Value::as_object_mut) {
            dedup.remove("memory");
        }
    }
    map.insert("recipe".to_owned(), value);
    Ok(map)
}

fn boundaries(job: &Job<'_>) -> Result<Boundaries> {
    let mark = |wanted: Option<bool>, key, token: Option<u32>| match (wanted, token) {
        (Some(true), None) => Err(Error::NoSpecialToken { key }),
        (Some(false), _) => Ok(None),
        (_, token) => Ok(token),
    };
    let split = &job.recipe.split;
    Ok(Boundaries {
        bos: mark(split.bos, "bos", job.tokenizer.bos())?,
        eos: mark(split.eos, "eos", job.tokenizer.eos())?,
    })
}

/// A folder in which something lies that no earlier run has put there is not written to: files would be replaced.
fn refuse_others(out: &Path) -> Result<()> {
    let ours = out.join(".lock").exists() || out.join(llama_pro_shards::RECORD_NAME).exists();
    // In a folder `work` nothing is touched but the pieces that runs put there.
    let names = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.file_name());
    match names.filter(|name| name != "work").min() {
        Some(name) if !ours => {
            let message = format!(
                "{}: expected a new folder, an empty one or one of `prepare`; it holds `{}`",
                out.display(),
                name.to_string_lossy()
            );
            Err(Error::Setting { key: "out", message })
        }
        _ => Ok(()),
    }
}

/// Held until it is dropped; the system lets go of it when the process ends, however it ends.
fn lock(out: &Path) -> Result<std::fs::File> {
    let path = out.join(".lock");
    let file = std::fs::File::create(&path).map_err(Error::io("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy { path: out.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
    }
}
