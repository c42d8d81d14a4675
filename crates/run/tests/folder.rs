//! Run folders: creation, the lock, finding them again, and files that appear whole.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use llama_pro_run::{Error, RunFolder, digest, digest_file, write_atomic};

fn recipe() -> toml::Table {
    "seed = 1\n[train]\nsteps = 3\n".parse().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn create_open_resume() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("runs/a");
    let message = RunFolder::open(&run).unwrap_err().to_string();
    assert!(message.contains("runs/a: not a run folder: "), "{message}");
    let folder = RunFolder::create(&run, &recipe()).unwrap();
    assert_eq!(names(&run), [".lock", "checkpoints", "eval", "recipe.toml"]);
    assert_eq!(folder.read_recipe().unwrap(), recipe());
    drop(folder);

    let message = RunFolder::create(&run, &recipe()).unwrap_err().to_string();
    assert!(
        message
            .ends_with("cannot make a run here: a run is there already; resume it or choose another folder")
    );
    // What a killed writer leaves goes away when the next one takes over, and nothing else does.
    std::fs::write(run.join(".metrics.jsonl.x.partial"), "half").unwrap();
    std::fs::write(run.join("eval/.before.json.x.partial"), "half").unwrap();
    std::fs::create_dir(run.join("model")).unwrap();
    std::fs::write(run.join("model/.chat_template.jinja.x.partial"), "half").unwrap();
    std::fs::write(run.join("notes.partial"), "mine").unwrap();
    RunFolder::open(&run).unwrap();
    assert!(run.join(".metrics.jsonl.x.partial").exists(), "reading changes nothing");
    let folder = RunFolder::resume(&run).unwrap();
    assert_eq!(names(&run), [".lock", "checkpoints", "eval", "model", "notes.partial", "recipe.toml"]);
    assert!(names(&run.join("eval")).is_empty() && names(&run.join("model")).is_empty());
    folder.write_summary(&serde_json::json!({"tokens": 3})).unwrap();
    assert_eq!(std::fs::read_to_string(folder.summary()).unwrap(), "{\n  \"tokens\": 3\n}\n");
    assert_eq!(folder.write_eval("before", &[1]).unwrap(), run.join("eval/before.json"));
}

#[test]
fn create_refuses_what_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = RunFolder::create(dir.path(), &recipe()).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }));
    assert!(error.to_string().ends_with("the folder is not empty (it holds `thesis.tex`)"), "{error}");
    assert_eq!(names(dir.path()), ["thesis.tex"], "a refusal leaves nothing behind");
    let error = RunFolder::create(&dir.path().join("thesis.tex"), &recipe()).unwrap_err();
    assert!(error.to_string().ends_with("it is a file"), "{error}");
    assert!(
        RunFolder::open(&dir.path().join("thesis.tex")).unwrap_err().to_string().ends_with("it is a file")
    );

    // Empty, or killed between making the folder and writing the recipe: both are as good as new.
    let half = dir.path().join("half");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join(".lock"), "").unwrap();
    std::fs::write(half.join(".recipe.toml.q.partial"), "se").unwrap();
    RunFolder::create(&half, &recipe()).unwrap();
    assert_eq!(names(&half), [".lock", "checkpoints", "eval", "recipe.toml"]);
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("a");
    let mut folder = RunFolder::create(&run, &recipe()).unwrap();
    folder.lock().unwrap();
    let error = RunFolder::resume(&run).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }));
    assert!(error.to_string().contains("in use by another process"), "{error}");
    RunFolder::open(&run).unwrap();

    // Another process: this very test program, told by a variable what to do.
    let other = |run: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "helper_that_tries_the_lock", "--nocapture"]).env("RUN_TO_LOCK", run);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(other(&run).contains("answer: locked"));
    drop(folder);
    assert!(other(&run).contains("answer: free"));
    RunFolder::resume(&run).unwrap();
}

/// Runs in the process that [`one_writer_at_a_time`] starts; alone it has nothing to do.
#[test]
fn helper_that_tries_the_lock() {
    if let Some(run) = std::env::var_os("RUN_TO_LOCK") {
        match RunFolder::resume(Path::new(&run)) {
            Ok(_) => println!("answer: free"),
            Err(Error::Locked { .. }) => println!("answer: locked"),
            Err(e) => println!("answer: {e}"),
        }
    }
}

#[test]
fn names_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("runs");
    assert_eq!(RunFolder::latest(&root, "pretrain").unwrap(), None);
    let at = |s| RunFolder::fresh_name_at(&root, "pretrain", UNIX_EPOCH + Duration::from_secs(s));
    assert_eq!(at(1_234_567_890), root.join("pretrain-20090213-233130"));
    for (seconds, expected) in [
        (99, "pretrain-19700101-000139"),
        // A clock that was set back: the run that begins now is still the newest.
        (7, "pretrain-19700101-000139-2"),
        (99, "pretrain-19700101-000139-3"),
    ] {
        let path = at(seconds);
        assert_eq!(path, root.join(expected));
        RunFolder::create(&path, &recipe()).unwrap();
        assert_eq!(RunFolder::latest(&root, "pretrain").unwrap(), Some(path));
    }
    // Other stems, other names and folders that are no runs do not count.
    RunFolder::create(&root.join("pretrain-tiny-20300101-000000"), &recipe()).unwrap();
    RunFolder::create(&root.join("pretrain-latest"), &recipe()).unwrap();
    std::fs::create_dir_all(root.join("pretrain-20310101-000000")).unwrap();
    assert_eq!(RunFolder::latest(&root, "pretrain").unwrap(), Some(root.join("pretrain-19700101-000139-3")));
    assert_eq!(RunFolder::latest(&root, "sft").unwrap(), None);
    assert!(RunFolder::fresh_name(&root, "sft").to_string_lossy().contains("/sft-2"));
}

#[test]
fn checkpoints_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("a"), &recipe()).unwrap();
    assert_eq!(folder.checkpoints().unwrap(), []);
    for name in
        ["step-00000020", "step-100000000", "step-00000003", "step-x", "step-5", ".step-00000009.partial"]
    {
        std::fs::create_dir(folder.dir().join("checkpoints").join(name)).unwrap();
    }
    std::fs::write(folder.checkpoint(7), "a file").unwrap();
    let found = folder.checkpoints().unwrap();
    assert_eq!(found.iter().map(|c| c.step).collect::<Vec<_>>(), [3, 20, 100_000_000]);
    assert_eq!(found[1].path, folder.checkpoint(20));
}

#[test]
fn atomic_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    write_atomic(&path, b"one").unwrap();
    write_atomic(&path, b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(names(dir.path()), ["a.json"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }
    // A folder in the way of the rename: an error that names it, and no temporary file left.
    std::fs::create_dir(dir.path().join("b")).unwrap();
    let message = write_atomic(&dir.path().join("b"), b"x").unwrap_err().to_string();
    assert!(message.contains("/b: cannot write: "), "{message}");
    assert_eq!(names(dir.path()), ["a.json", "b"]);
    let message = write_atomic(&dir.path().join("none/c"), b"x").unwrap_err().to_string();
    assert!(message.contains("none/c: cannot write: "), "{message}");
    assert_eq!(digest_file(&path).unwrap(), digest(b"two"));
    // The digest of the empty input, as BLAKE3's paper has it.
    assert_eq!(digest(b""), "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
}
