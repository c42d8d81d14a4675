//! HumanEval and MBPP: all answers of the data sets pass, and broken ones fail. The data is not in the repository; a
//! few problems of our own in the same form are.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use llama_pro_sandbox::{Outcome, Program, Sandbox, human_eval, mbpp};
use serde_json::Value;

use crate::{completes, full, run, tested, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("own_problems_pass_and_fail_as_they_should", own),
        trial("the_answers_of_human_eval_pass", human_eval_answers),
        trial("the_answers_of_mbpp_pass", mbpp_answers),
        trial("speed", speed).with_ignored_flag(true),
    ]
}

fn data(name: &str) -> Option<Vec<Value>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/eval").join(name);
    let Ok(mut file) = File::open(&path) else {
        println!("skipped: no {name} in shared/data/eval beside the clone");
        return None;
    };
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        file.read_to_string(&mut text).unwrap();
    }
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn run_all(sandbox: &Sandbox, name: &str, programs: &[Program]) -> Vec<Outcome> {
    let started = Instant::now();
    let outcomes = sandbox.run(programs).unwrap();
    let rate = programs.len() as f64 / started.elapsed().as_secs_f64();
    println!("{name}: {} programs, {rate:.0} a second", programs.len());
    outcomes
}

/// All must pass; the failures with their problems, at once.
fn all_pass(names: &[String], outcomes: &[Outcome]) {
    let failed: Vec<String> = names
        .iter()
        .zip(outcomes)
        .filter_map(|(name, outcome)| {
            outcome.result.as_ref().err().map(|failure| format!("{name}: {failure:?}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), names.len(), failed.join("\n"));
}

fn human_eval_answers() {
    let (Some(sandbox), Some(rows)) = (full(), data("HumanEval.jsonl.gz")) else { return };
    assert_eq!(rows.len(), 164);
    let names: Vec<String> = rows.iter().map(|row| text(row, "task_id").to_owned()).collect();
    let program = |row: &Value, completion: &str| {
        human_eval(text(row, "prompt"), completion, text(row, "test"), text(row, "entry_point"))
    };
    let right: Vec<Program> = rows.iter().map(|row| program(row, text(row, "canonical_solution"))).collect();
    all_pass(&names, &run_all(sandbox, "HumanEval", &right));
    // The answer to another problem, and none at all.
    let other = rows.iter().cycle().skip(1);
    let wrong: Vec<Program> = rows
        .iter()
        .zip(other)
        .flat_map(|(row, other)| {
            [program(row, "    return None\n"), program(row, text(other, "canonical_solution"))]
        })
        .collect();
    let passed: Vec<usize> = passing(&run_all(sandbox, "HumanEval, wrong", &wrong));
    assert!(passed.is_empty(), "wrong answers pass: {passed:?}");
}

fn passing(outcomes: &[Outcome]) -> Vec<usize> {
    outcomes.iter().enumerate().filter(|(_, outcome)| outcome.passed()).map(|(i, _)| i).collect()
}

fn mbpp_answers() {
    let (Some(sandbox), Some(rows)) = (full(), data("mbpp.jsonl")) else { return };
    assert_eq!(rows.len(), 974);
    let names: Vec<String> = rows.iter().map(|row| row["task_id"].to_string()).collect();
    let program = |row: &Value, answer: &str| {
        let tests: Vec<String> = serde_json::from_value(row["test_list"].clone()).unwrap();
        let mut program = mbpp(answer, text(row, "test_setup_code"), &tests, text(row, "code"));
        // A few answers compute for seconds, and the machine may be busy.
        program.limits.wall = Duration::from_secs(60);
        program
    };
    let right: Vec<Program> = rows.iter().map(|row| program(row, text(row, "code"))).collect();
    all_pass(&names, &run_all(sandbox, "MBPP", &right));
    let wrong: Vec<Program> =
        rows.iter().zip(rows.iter().skip(1)).map(|(row, next)| program(row, text(next, "code"))).collect();
    let passed = passing(&run_all(sandbox, "MBPP, wrong", &wrong[..100]));
    assert!(passed.is_empty(), "wrong answers pass: {passed:?}");
}

/// What a program costs, beside the interpreter alone: `cargo test --release -p llama-pro-sandbox --test it speed --
/// --ignored --nocapture`. Not a test: it prints.
fn speed() {
    let Some(sandbox) = full() else { return };
    let python = run(sandbox, completes("import sys; print(sys.executable)")).stdout;
    let mut walls: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..60 {
        let started = Instant::now();
        let status =
            std::process::Command::new(python.trim()).args(["-I", "-S", "-c", "print(42)"]).output().unwrap();
        assert!(status.status.success());
        walls[0].push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        assert!(run(sandbox, tested("def answer(): return 42", "assert answer() == 42")).passed());
        walls[1].push(started.elapsed().as_secs_f64());
    }
    for (name, walls) in ["python alone", "sandboxed and tested"].iter().zip(&mut walls) {
        walls.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.1} ms at best, {:.1} ms in the middle",
            walls[0] * 1e3,
            walls[walls.len() / 2] * 1e3
        );
    }
    let many = vec![tested("def answer(): return 42", "assert answer() == 42"); 200];
    run_all(sandbox, "small programs", &many);
}

/// Problems in the forms of both benchmarks, with a right and a wrong answer each.
fn own() {
    let Some(sandbox) = full() else { return };
    let completion = [
        (
            "def double(x: int) -> int:\n    \"\"\" Twice x.\n    >>> double(2)\n    4\n    \"\"\"\n",
            "    return 2 * x\n",
            "    return 3 * x\n",
            "METADATA = {}\n\ndef check(candidate):\n    for i in range(9):\n        assert candidate(i) == i + i\n",
            "double",
        ),
        (
            // The prompt's helper is the tests' helper, too.
            "def shift(s):\n    return ''.join(chr((ord(c) - 92) % 26 + 97) for c in s)\n\ndef unshift(s):\n    \"\"\" Undoes shift. \"\"\"\n",
            "    return ''.join(chr((ord(c) - 102) % 26 + 97) for c in s)\n",
            "    return s\n\ndef shift(s):\n    return s\n",
            "def check(candidate):\n    for s in ('abc', 'xyz'):\n        assert candidate(shift(s)) == s\n",
            "unshift",
        ),
        (
            "import math\n\ndef root(xs: list):\n    \"\"\" A zero of the polynomial. \"\"\"\n",
            "    return -xs[0] / xs[1]\n",
            "    return xs[0]\n",
            "def check(candidate):\n    import random\n    rng = random.Random(1)\n    for _ in range(10):\n        a, b = rng.random() + 1, rng.random() + 1\n        assert math.fabs(a + b * candidate([a, b])) < 1e-9\n",
            "root",
        ),
    ];
    for (prompt, right, wrong, test, name) in completion {
        let outcomes = sandbox
            .run(&[human_eval(prompt, right, test, name), human_eval(prompt, wrong, test, name)])
            .unwrap();
        assert!(outcomes[0].passed(), "{name}: {:?}", outcomes[0]);
        assert!(!outcomes[1].passed(), "{name}: {:?}", outcomes[1]);
    }
    let answers = [
        ("def sum(a, b):\n  return a * b\n", "def sum(a, b):\n  return a + b\n", "assert sum(3, 4) == 12"),
        (
            "class Node:\n  def __init__(self, v):\n    self.v, self.left = v, None\ndef depth(n):\n  return 0 if n is None else 1 + depth(n.left)\n",
            "class Node:\n  def __init__(self, v):\n    self.v, self.left = v, None\ndef depth(n):\n  return 0\n",
            "assert depth(root) == 2",
        ),
        (
            "def tops(xs):\n  return set(xs)\n",
            "def tops(xs):\n  return list(xs)\n",
            "assert tops((1, 2)) == {2, 1}",
        ),
    ];
    for (right, wrong, test) in answers {
        let setup = if right.contains("Node") { "root = Node(1)\nroot.left = Node(2)\n" } else { "" };
        let tests = [test.to_owned()];
        let outcomes =
            sandbox.run(&[mbpp(right, setup, &tests, right), mbpp(wrong, setup, &tests, right)]).unwrap();
        assert!(outcomes[0].passed(), "{test}: {:?}", outcomes[0]);
        assert!(!outcomes[1].passed(), "{test}: {:?}", outcomes[1]);
    }
}
