//! The fetch with a fake pip and tiny wheels: whole, wrong, interrupted, twice at once. Nothing here has network.
//! The fake hands everything but pip to the real python3, so the unpacking is the real one.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::host::find_program;
use crate::host::tests::script;
use crate::pins::Member;
use crate::progress::tests::Sink;

const TORCH: &[Member] =
    &[Member::Strip("torch/include/*", "torch/"), Member::Flat("torch/lib/libtorch_cpu.so", "lib")];
const RUNTIME: &[Member] = &[Member::Flat("nvidia/*/lib/libcudart.so.13", "lib")];

/// Copies the wheel that the requirement names from the store; fails where a file `offline` lies there.
const PIP: &str = r#"#!/bin/sh
if [ "$1 $2 $3" != "-m pip download" ]; then exec REAL "$@"; fi
echo "$@" >> STORE/calls
while [ $# -gt 0 ]; do
    case "$1" in
        --requirement) list=$2 ;;
        --dest) dest=$2 ;;
    esac
    shift
done
sleep 0.3
name=$(sed 's/==.*//; s/-/_/g' "$list")
if [ -e "STORE/offline-$name" ]; then echo "ERROR: no network for $name" >&2; exit 1; fi
grep -q "==.* --hash=sha256:" "$list" || { echo "ERROR: no digest asked for" >&2; exit 1; }
mkdir -p "$dest" && cp STORE/"$name"-*.whl "$dest"
"#;

/// Makes a wheel from `path=text` words.
const ZIP: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    for word in sys.argv[2:]:
        z.writestr(*word.split('='))
";

struct Bench {
    folder: tempfile::TempDir,
    python: Python,
    pins: Pins,
}

impl Bench {
    /// None where there is no python3 to make wheels with.
    fn new() -> Option<Self> {
        let Some(real) = find_program("python3", &std::env::var_os("PATH")?) else {
            println!("skipped: python3 not there");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        let program = folder.path().join("python3");
        let text = PIP.replace("REAL", real.to_str().unwrap()).replace("STORE", store.to_str().unwrap());
        script(&program, &text);
        let pins = Pins {
            name: "libtorch-test",
            inside: "",
            platforms: vec!["any".to_owned()],
            wheels: Vec::new(),
            linker_script: true,
        };
        let mut bench = Self { folder, python: Python(program), pins };
        bench.add(
            "torch-1.0-py3-none-any.whl",
            &["torch/include/a/b.h=header", "torch/lib/libtorch_cpu.so=cpu", "torch/lib/libtorch_cuda.so=no"],
            TORCH,
        );
        bench.add("nvidia_rt-2-py3-none-any.whl", &["nvidia/cu13/lib/libcudart.so.13=rt"], RUNTIME);
        Some(bench)
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn home(&self) -> PathBuf {
        self.cache().join("libtorch-test")
    }

    fn zip(&self, name: &str, members: &[&str]) -> PathBuf {
        let file = self.store().join(name);
        let status = self.python.command().args(["-c", ZIP]).arg(&file).args(members).status().unwrap();
        assert!(status.success());
        file
    }

    fn add(&mut self, name: &str, members: &[&str], rules: &'static [Member]) {
        let (sha256, bytes) = manifest::digest(&self.zip(name, members)).unwrap();
        self.pins.wheels.push(Wheel { file: name.to_owned(), bytes, sha256, members: rules });
    }

    /// One run; what it said.
    fn run(&self) -> (Result<()>, String) {
        self.run_with(&|_| Ok(()))
    }

    fn run_with(&self, accept: &dyn Fn(&Path) -> Result<(), String>) -> (Result<()>, String) {
        let sink = Sink::default();
        let home = self.home();
        let ready = || matches!(manifest::check(&home, false), Some(Ok(())));
        let cache = self.cache();
        let fetch = Fetch { cache: &cache, pins: &self.pins, python: &self.python, accept, ready: &ready };
        let outcome = fetch.run(&mut Progress::new(Box::new(sink.clone()), false, false));
        (outcome, sink.text())
    }

    /// The wheels that pip was asked for, in order.
    fn calls(&self) -> usize {
        fs::read_to_string(self.store().join("calls")).unwrap_or_default().lines().count()
    }

    fn assert_whole(&self) {
        let read = |name: &str| fs::read_to_string(self.home().join(name)).unwrap();
        assert_eq!(read("include/a/b.h"), "header");
        assert_eq!(read("lib/libtorch_cpu.so"), "cpu");
        assert_eq!(read("lib/libcudart.so.13"), "rt");
        assert_eq!(read(&format!("lib/{}", library("torch"))), "INPUT(libtorch_cpu.so)\n");
        assert!(!self.home().join("lib/libtorch_cuda.so").exists());
        assert_eq!(read(manifest::NAME).lines().count(), 3);
        manifest::check(&self.home(), true).unwrap().unwrap();
        assert!(!staging(&self.cache(), &self.pins).exists());
    }
}

#[test]
fn a_whole_fetch() {
    let Some(bench) = Bench::new() else { return };
    let (outcome, said) = bench.run();
    outcome.unwrap();
    bench.assert_whole();
    assert_eq!(bench.calls(), 2);
    assert!(
        said.contains("fetching libtorch-test: 100 %") && said.contains("unpacking libtorch: 100 %"),
        "{said}"
    );
    let calls = fs::read_to_string(bench.store().join("calls")).unwrap();
    assert!(calls.lines().all(|call| call.contains("--require-hashes") && call.contains("--no-deps")));
    bench.run().0.unwrap();
    assert_eq!(bench.calls(), 2, "a second run has nothing to do");
}

#[test]
fn a_wheel_with_another_digest_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let good = fs::read(bench.store().join("nvidia_rt-2-py3-none-any.whl")).unwrap();
    bench.zip("nvidia_rt-2-py3-none-any.whl", &["nvidia/cu13/lib/libcudart.so.13=xx"]);
    let error = format!("{:#}", bench.run().0.unwrap_err());
    assert!(error.contains("nvidia_rt-2-py3-none-any.whl has") && error.contains("expected"), "{error}");
    assert!(error.contains(&bench.pins.wheels[1].sha256));
    assert!(!bench.home().exists());
    fs::write(bench.store().join("nvidia_rt-2-py3-none-any.whl"), good).unwrap();
    bench.run().0.unwrap();
    bench.assert_whole();
    assert_eq!(bench.calls(), 3, "the first wheel was kept");
}

#[test]
fn an_interrupted_fetch_goes_on() {
    let Some(bench) = Bench::new() else { return };
    let offline = bench.store().join("offline-nvidia_rt");
    fs::write(&offline, "").unwrap();
    let error = format!("{:#}", bench.run().0.unwrap_err());
    assert!(error.contains("pip could not fetch nvidia-rt==2: ERROR: no network for nvidia_rt"), "{error}");
    assert!(!bench.home().exists());
    // What a killed run may have left: half a wheel in pip's folder, half a tree.
    let partial = staging(&bench.cache(), &bench.pins);
    fs::create_dir_all(partial.join("pip-1/out")).unwrap();
    fs::write(partial.join("pip-1/out/torch-1.0-py3-none-any.whl"), "half").unwrap();
    fs::create_dir_all(partial.join("tree/lib")).unwrap();
    fs::write(partial.join("tree/lib/stale.so"), "stale").unwrap();
    fs::remove_file(offline).unwrap();
    bench.run().0.unwrap();
    bench.assert_whole();
    assert_eq!(bench.calls(), 3);
}

#[test]
fn a_kept_wheel_is_checked_again() {
    let Some(bench) = Bench::new() else { return };
    let wheels = staging(&bench.cache(), &bench.pins).join("wheels");
    fs::create_dir_all(&wheels).unwrap();
    // One brought by hand, and one cut short on the way.
    fs::copy(bench.store().join("nvidia_rt-2-py3-none-any.whl"), wheels.join("nvidia_rt-2-py3-none-any.whl"))
        .unwrap();
    fs::write(wheels.join("torch-1.0-py3-none-any.whl"), "half").unwrap();
    let (outcome, said) = bench.run();
    outcome.unwrap();
    bench.assert_whole();
    assert!(said.contains("has 4 bytes") && said.contains("fetching it again"), "{said}");
    assert_eq!(bench.calls(), 1);
}

#[test]
fn two_at_once_fetch_once() {
    let Some(bench) = Bench::new() else { return };
    let said = std::thread::scope(|scope| {
        let runs = [scope.spawn(|| bench.run()), scope.spawn(|| bench.run())];
        runs.map(|run| {
            let (outcome, said) = run.join().unwrap();
            outcome.unwrap();
            said
        })
    });
    bench.assert_whole();
    assert_eq!(bench.calls(), 2);
    assert_eq!(said.iter().filter(|text| text.contains("waiting for it")).count(), 1, "{said:?}");
}

#[test]
fn a_tree_that_is_not_accepted_gets_no_name() {
    let Some(bench) = Bench::new() else { return };
    let asked = AtomicBool::new(false);
    let (outcome, _) = bench.run_with(&|root| {
        asked.store(root.join("lib/libtorch_cpu.so").exists(), Ordering::Relaxed);
        Err("does not link".to_owned())
    });
    assert_eq!(outcome.unwrap_err().to_string(), "does not link");
    assert!(asked.into_inner() && !bench.home().exists());
}

#[test]
fn a_damaged_folder_is_replaced() {
    let Some(bench) = Bench::new() else { return };
    bench.run().0.unwrap();
    fs::write(bench.home().join("lib/libtorch_cpu.so"), "cp").unwrap();
    bench.run().0.unwrap();
    bench.assert_whole();
}

#[test]
fn a_member_that_leaves_the_folder_is_refused() {
    let Some(mut bench) = Bench::new() else { return };
    bench.add("evil-1-py3-none-any.whl", &["torch/include/../../../evil=x"], TORCH);
    let error = format!("{:#}", bench.run().0.unwrap_err());
    assert!(error.contains("leaves the folder"), "{error}");
    assert!(!bench.home().exists() && !bench.cache().join("evil").exists());
}

#[test]
fn a_wheel_without_the_expected_files_is_refused() {
    let Some(mut bench) = Bench::new() else { return };
    bench.add("empty-1-py3-none-any.whl", &["other=x"], TORCH);
    let error = format!("{:#}", bench.run().0.unwrap_err());
    assert!(error.contains("empty-1-py3-none-any.whl holds none of the expected files"), "{error}");
}
