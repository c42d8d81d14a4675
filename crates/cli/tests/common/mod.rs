//! The program as a user runs it, folders to run it on, and readers that share no code with it.
//!
//! `crates/cli-torch/tests` use this file too: there the program is `llama-pro-torch`, which `llama-pro` starts with the
//! same arguments. Everything runs on one thread: models this small are fastest so, and results depend on the number in the last bit.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

pub(crate) mod broken;
pub(crate) mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

/// A folder under tests/fixtures of the workspace.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Of the package that is tested: cargo names only its own program.
const PROGRAM: &str =
    match (option_env!("CARGO_BIN_EXE_llama-pro"), option_env!("CARGO_BIN_EXE_llama-pro-torch")) {
        (Some(path), _) | (None, Some(path)) => path,
        (None, None) => panic!("cargo names no program"),
    };

/// The program in a working folder, with logs of errors only.
pub(crate) fn program(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(dir).env("LLAMA_PRO_LOG", "error").stdin(Stdio::null());
    command
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `llama-pro --threads 1 ARGS` in `dir`. Arguments are separated by blanks.
pub(crate) fn run(dir: &Path, args: &str) -> Ran {
    run_list(dir, &args.split_whitespace().collect::<Vec<_>>())
}

/// [`run`] with arguments that may hold blanks.
pub(crate) fn run_list(dir: &Path, args: &[&str]) -> Ran {
    let output = program(dir).args(["--threads", "1"]).args(args).output().unwrap();
    Ran {
        command: format!("llama-pro {}", args.join(" ")),
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Exit code 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// stdout as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// Exit code 2, nothing on stdout, and one line on stderr with all of these words.
    #[track_caller]
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        self.failed(2, words)
    }

    /// The same with another exit code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "exit code: {self:#?}");
        assert_eq!(self.stdout, "", "stdout: {self:#?}");
        self.one_line(words)
    }

    /// One line on stderr that begins with `error: ` and has all of these words.
    #[track_caller]
    pub(crate) fn one_line(self, words: &[&str]) -> Self {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line: {self:#?}");
        assert!(lines[0].starts_with("error: ") && !lines[0].contains("internal"), "{self:#?}");
        for word in words {
            assert!(lines[0].contains(word), "`{word}` is missing: {self:#?}");
        }
        self
    }
}

/// Runs what must be refused, and holds the program to leaving everything as it was.
#[track_caller]
pub(crate) fn refused(dir: &Path, args: &str, words: &[&str]) {
    let before = tree(dir);
    run(dir, args).refused(words);
    assert_unchanged(&before, dir);
}

/// Everything below a folder, hidden names too: files with their bytes, folders with nothing.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Reads one.
pub(crate) fn tree(dir: &Path) -> Tree {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            if path.symlink_metadata().unwrap().is_dir() {
                all.insert(name, None);
                open.push(path);
            } else {
                all.insert(name, Some(fs::read(&path).unwrap_or_default()));
            }
        }
    }
    all
}

/// Fails with the names of what is not in `dir` as it was.
#[track_caller]
pub(crate) fn assert_unchanged(before: &Tree, dir: &Path) {
    let after = tree(dir);
    let names: std::collections::BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = names.into_iter().filter(|n| before.get(*n) != after.get(*n)).collect();
    assert!(changed.is_empty(), "{}: changed: {changed:?}", dir.display());
}

/// Copies a folder without the numbers that tests compare with.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if name != "expected.safetensors" {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A file as JSON.
pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Changes a JSON object in a file.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    let mut value = json_file(path);
    edit(value.as_object_mut().unwrap());
    fs::write(path, format!("{value:#}\n")).unwrap();
}

/// A safetensors file taken apart by hand: its header, and the bytes that follow.
pub(crate) fn open_tensors(path: &Path) -> (Map<String, Value>, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + n]).unwrap(), bytes[8 + n..].to_vec())
}

/// Puts one together again.
pub(crate) fn write_tensors(path: &Path, header: &str, data: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length, header.as_bytes(), data].concat()).unwrap();
}

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    /// Elements.
    pub(crate) fn count(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// As float32; the other kinds are an error of the test.
    pub(crate) fn f32(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32");
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

/// Every tensor of a file.
pub(crate) fn tensors_of(path: &Path) -> BTreeMap<String, Raw> {
    let (header, data) = open_tensors(path);
    let tensor = |(name, entry): (String, Value)| {
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let (begin, end) = (number(&entry["data_offsets"][0]), number(&entry["data_offsets"][1]));
        let shape = entry["shape"].as_array().unwrap().iter().map(number).collect();
        let dtype = entry["dtype"].as_str().unwrap().to_owned();
        (name, Raw { dtype, shape, bytes: data[begin..end].to_vec() })
    };
    header.into_iter().filter(|(name, _)| name != "__metadata__").map(tensor).collect()
}

/// Every tensor of the weight files of a model folder.
pub(crate) fn model_tensors(dir: &Path) -> BTreeMap<String, Raw> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            all.extend(tensors_of(&path));
        }
    }
    assert!(!all.is_empty(), "{}: no weights", dir.display());
    all
}

/// The weight file that holds a tensor, and where the tensor begins in it.
pub(crate) fn place_of(dir: &Path, tensor: &str) -> (PathBuf, usize) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let (header, data) = open_tensors(&path);
            if let Some(entry) = header.get(tensor) {
                let file = fs::metadata(&path).unwrap().len() as usize;
                return (path, file - data.len() + entry["data_offsets"][0].as_u64().unwrap() as usize);
            }
        }
    }
    panic!("{}: no tensor {tensor}", dir.display());
}

/// Flips the lowest bit of one byte of a file.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A recipe for a base from nothing: two blocks, a tokenizer of 300, all on made-up problems. It trains in a moment.
pub(crate) const BASE_RECIPE: &str = r#"
seed = 5
device = "cpu"
[base.scratch]
vocab-size = 300
hidden-size = 32
intermediate-size = 64
num-hidden-layers = 2
num-attention-heads = 4
num-key-value-heads = 2
max-position-embeddings = 64
[data]
sequence-length = 32
validation = 0.2
[[data.sources]]
name = "math"
weight = 1.0
source = { kind = "math", seed = 1, documents = 150 }
[train]
steps = 12
rows-per-step = 4
parameters = "all"
learning-rate = 3e-3
[eval]
rows = 8
batch-rows = 4
"#;

/// A recipe that grows that base, with replay and KL on a text to keep.
pub(crate) const GROW_RECIPE: &str = r#"
seed = 9
device = "cpu"
[base]
model = "base/model"
[expand]
blocks = 2
[data]
sequence-length = 32
validation = 0.2
[[data.sources]]
name = "math"
weight = 1.0
source = { kind = "math", seed = 2, documents = 150 }
[keep]
name = "text"
share = 0.25
replay = 1.0
kl = 0.5
validation = 0.5
source = { kind = "text", path = "keep.txt", split = "blank-lines" }
[train]
steps = 48
rows-per-step = 4
micro-rows = 2
learning-rate = 1e-2
checkpoint-every = 5
keep-checkpoints = 2
validate-every = 7
[eval]
rows = 8
batch-rows = 4
validation-rows = 2
"#;

/// Steps of [`GROW_RECIPE`].
pub(crate) const STEPS: u64 = 48;

/// A working folder with `base/` (a finished run of [`BASE_RECIPE`]), `grow.toml`, `base.toml` and `keep.txt`.
pub(crate) fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("base.toml"), BASE_RECIPE).unwrap();
    fs::write(dir.path().join("grow.toml"), GROW_RECIPE).unwrap();
    let colours = ["blue", "grey", "green"];
    let keep: Vec<String> = (0..80)
        .map(|i| {
            let (colour, fish) = (colours[i % 3], i * 7 % 11);
            format!("The {i} small boats went out to the {colour} sea and came back with {fish} fish.")
        })
        .collect();
    fs::write(dir.path().join("keep.txt"), keep.join("\n\n")).unwrap();
    run(dir.path(), "pretrain --config base.toml --run base").ok();
    dir
}

/// The training lines of metrics.jsonl, without those of validation: step, and loss and gradient norm to the bit.
pub(crate) fn curve(run: &Path) -> Vec<(u64, u64, u64)> {
    let bits = |line: &Value, key: &str| line[key].as_f64().unwrap().to_bits();
    metrics(run)
        .iter()
        .filter(|line| line.get("loss").is_some())
        .map(|line| (line["step"].as_u64().unwrap(), bits(line, "loss"), bits(line, "grad_norm")))
        .collect()
}

/// The lines of metrics.jsonl.
pub(crate) fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(text.ends_with('\n'), "a torn last line");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The weights of a run's last checkpoint and all of its model folder.
pub(crate) fn outcome(run: &Path) -> Tree {
    let mut all = tree(&run.join("model"));
    let last = run.join(format!("checkpoints/step-{STEPS:08}"));
    for name in ["weights.safetensors", "optimizer.safetensors"] {
        all.insert(PathBuf::from(name), Some(fs::read(last.join(name)).unwrap()));
    }
    all
}
