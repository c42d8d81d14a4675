//! What passes and what fails, the limits, the output, and the report of the layers.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use llama_pro_sandbox::{
    Config, Error, FailureKind, Isolation, Judge, Layer, Limits, Program, Sandbox, Tests,
};

use crate::{completes, drivers, full, run, sandboxes, tested, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the_layers_are_probed", layers),
        trial("right_answers_pass_and_wrong_ones_fail", right_and_wrong),
        trial("values_of_every_kind_come_back_equal", values),
        trial("failures_have_their_kinds", kinds),
        trial("output_is_kept_and_capped", output),
        trial("limits_hold", limits),
        trial("memory_of_all_processes_together_is_limited", memory_together),
        trial("memory_that_processes_share_counts_once", memory_shared),
        trial("many_programs_keep_their_order", order),
        trial("builtins_of_the_tests_are_the_tests_own", builtins),
        trial("without_isolation_the_judgements_are_the_same", unsandboxed),
        trial("a_python_that_is_none_is_refused", no_python),
    ]
}

fn layers() {
    for (name, sandbox) in sandboxes() {
        println!("{name}:\n{}", sandbox.probe());
        for layer in Layer::ALL {
            let left_out = match name {
                "no landlock" => layer == Layer::Landlock,
                "no system call filter" => layer == Layer::SystemCalls,
                _ => false,
            };
            if left_out {
                assert!(!sandbox.probe().holds(layer), "{name}: {layer} is said to hold and was left out");
            } else if layer.is_required() {
                assert!(sandbox.probe().holds(layer), "{name}: {layer}");
            }
        }
    }
}

fn right_and_wrong() {
    let Some(sandbox) = full() else { return };
    let right = run(sandbox, tested("def answer(x):\n    return x * 2\n", "assert answer(21) == 42"));
    assert_eq!(right.result, Ok(()), "{right:?}");
    let wrong = run(sandbox, tested("def answer(x):\n    return x * 3\n", "assert answer(21) == 42, 'off'"));
    let failure = wrong.result.unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Exception, "AssertionError: off"));
}

/// Each value is made by the code and compared by the tests with the same expression.
fn values() {
    let Some(sandbox) = full() else { return };
    let expressions = [
        "None",
        "True",
        "0",
        "-7",
        "10**400",
        "-(10**30)",
        "1.5",
        "float('inf')",
        "-0.0",
        "5e-324",
        "''",
        "'h\u{e9}llo \\u2603 \\ud800 \\x00'",
        "b'\\x00\\xff'",
        "(1, (2, [3]))",
        "[]",
        "[[1], [2, 3]]",
        "{1, 2}",
        "frozenset({1})",
        "{'a': [1], (2, 3): None}",
        "2+3j",
        "range(3, 30, 4)",
        "__import__('collections').deque([1, 2])",
        "__import__('decimal').Decimal('1.10')",
        "__import__('fractions').Fraction(1, 3)",
        "__import__('collections').Counter('abca')",
        "__import__('collections').OrderedDict(a=1)",
        "{1: 2}.keys()",
    ];
    for expression in expressions {
        let code = format!("def answer():\n    return {expression}\n");
        let test = format!("assert answer() == {expression}");
        let outcome = run(sandbox, tested(&code, &test));
        assert!(outcome.passed(), "{expression}: {outcome:?}");
    }
    // Also as arguments, objects of the code's own, callables both ways, iterators, exceptions.
    let code = "
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
    def total(self): return self.a + self.b
def answer(pairs): return sum(p.total() for p in pairs)
def squares(n): return (i * i for i in range(n))
def apply(f, xs): return [f(x) for x in xs]
def fail(): raise ValueError('no')
";
    let tests = "
assert answer([Pair(1, 2), Pair(b=3, a=4)]) == 10
assert Pair(5, 6).total() == 11 and Pair(5, 6).a == 5
assert list(squares(4)) == [0, 1, 4, 9]
assert apply(lambda x: x + 1, (1, 2)) == [2, 3]
try:
    fail()
except ValueError as error:
    assert 'no' in str(error)
else:
    raise AssertionError('nothing raised')
assert math.isclose(answer([]), 0)
";
    let outcome = run(sandbox, tested(code, tests));
    assert!(outcome.passed(), "{outcome:?}");
}

fn kinds() {
    let Some(sandbox) = full() else { return };
    let cases = [
        ("def answer(:", FailureKind::Exception, "SyntaxError"),
        ("1 / 0", FailureKind::Exception, "ZeroDivisionError: division by zero"),
        ("x = bytearray(3 << 30)", FailureKind::Memory, "MemoryError"),
        ("raise SystemExit(0)", FailureKind::Exit, "SystemExit: 0"),
        ("import os; os._exit(0)", FailureKind::Exit, "ended with code 0 before it was through"),
        ("import os; os.abort()", FailureKind::Killed, "ended by signal 6"),
        ("import os; os.kill(os.getpid(), 9)", FailureKind::Killed, "ended by signal 9"),
        ("def answer(): return 1", FailureKind::Exception, "AssertionError"),
        ("x = 1", FailureKind::Exception, "NameError: name 'answer' is not defined"),
    ];
    for (code, kind, message) in cases {
        let failure = run(sandbox, tested(code, "assert answer() == 42")).result.unwrap_err();
        assert_eq!(failure.kind, kind, "{code}: {failure:?}");
        assert!(failure.message.starts_with(message), "{code}: {failure:?}");
    }
}

fn output() {
    let Some(sandbox) = full() else { return };
    let outcome = run(sandbox, completes("import sys\nprint('42 \u{2603}')\nprint('why', file=sys.stderr)"));
    assert!(outcome.passed(), "{outcome:?}");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("42 \u{2603}\n", "why\n"));
    // Far more than a pipe holds, and less than it may write: read to the end, and the beginning kept.
    let outcome = run(sandbox, completes("for i in range(100000): print(i)"));
    assert!(outcome.passed(), "{outcome:?}");
    assert_eq!(outcome.stdout.len(), Limits::default().output_kept);
    assert!(outcome.stdout.starts_with("0\n1\n2\n"));
    // What is written last of all is there too.
    let outcome = run(sandbox, completes("print(sum(range(10)), end='')"));
    assert_eq!(outcome.stdout, "45");
    // The folder is the program's own, and works.
    let folder =
        "open('a', 'w').write('x'); import os; os.mkdir('d'); print(sorted(os.listdir('.')), os.getcwd())";
    let outcome = run(sandbox, completes(folder));
    assert_eq!(outcome.stdout, "['a', 'd'] /work\n", "{outcome:?}");
    let outcome = run(sandbox, completes("import os; print(os.listdir('.'))"));
    assert_eq!(outcome.stdout, "[]\n", "what one program writes must not be there for the next");
}

fn limits() {
    let Some(sandbox) = full() else { return };
    let mut program = completes("while True: pass");
    program.limits.wall = Duration::from_millis(300);
    let started = Instant::now();
    let failure = run(sandbox, program.clone()).result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    program.limits = Limits { cpu_seconds: 1, ..Limits::default() };
    let failure = run(sandbox, program).result.unwrap_err();
    // The kernel says nothing but "signal 9": that it was the processor time is found from what was used.
    let found = (failure.kind, failure.message.as_str());
    assert_eq!(found, (FailureKind::Timeout, "took more processor time than it may"));
    assert!(drivers().is_empty(), "{:?}", drivers());
}

fn order() {
    let Some(sandbox) = full() else { return };
    let programs: Vec<Program> = (0..24).map(|i| completes(&format!("print({i} * {i})"))).collect();
    let outcomes = sandbox.run(&programs).unwrap();
    for (i, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.stdout, format!("{}\n", i * i), "{outcome:?}");
    }
    assert!(sandbox.run(&[]).unwrap().is_empty());
}

/// A name of the code is used only where it is asked for: its `abs` cannot make a wrong answer right.
fn builtins() {
    let Some(sandbox) = full() else { return };
    let code = "def abs(x): return 0\ndef helper(x): return 42\ndef answer(): return 1\nclass math:\n    isclose = lambda *a: True\n";
    for test in [
        "assert abs(answer() - 42) < 1e-6",
        "assert math.isclose(answer(), 42)",
        "assert helper(answer()) == 42",
    ] {
        let tests = Tests {
            context: "def helper(x):\n    return x\n".to_owned(),
            source: test.to_owned(),
            provided: vec!["answer".to_owned()],
        };
        let program =
            Program { code: code.to_owned(), judge: Judge::Tests(tests), limits: Limits::default() };
        assert!(!run(sandbox, program).passed(), "{test}");
    }
    // Where the name is the one that is asked for, it is the code's.
    let tests = Tests {
        source: "assert sum(10, 15) == 6".to_owned(),
        provided: vec!["sum".to_owned()],
        ..Tests::default()
    };
    let code = "def sum(a, b):\n    return 1 + 5\n".to_owned();
    let outcome = run(sandbox, Program { code, judge: Judge::Tests(tests), limits: Limits::default() });
    assert!(outcome.passed(), "{outcome:?}");
}

fn unsandboxed() {
    let sandbox = Sandbox::open(&Config { isolation: Isolation::Unsandboxed, ..Config::default() }).unwrap();
    assert_eq!(sandbox.isolation(), Isolation::Unsandboxed);
    assert!(run(&sandbox, tested("def answer(): return 42", "assert answer() == 42")).passed());
    assert!(!run(&sandbox, tested("def answer(): return 41", "assert answer() == 42")).passed());
    assert_eq!(run(&sandbox, completes("print(6 * 7)")).stdout, "42\n");
    // The clock on the wall ends it, so that of the processor must not come first.
    let mut endless = completes("import os\nos.fork()\nwhile True: pass");
    endless.limits.cpu_seconds = 20;
    let endless = run(&sandbox, endless);
    let failure = endless.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout, "{} after {:?}", failure.message, endless.wall);
    let large = run(&sandbox, completes("x = bytearray(3 << 30)"));
    assert_eq!(large.result.unwrap_err().kind, FailureKind::Memory);
}

fn no_python() {
    for python in ["/nowhere/python3", "/bin/true", "/bin/false"] {
        let error = Sandbox::open(&Config { python: python.into(), ..Config::default() }).unwrap_err();
        assert!(matches!(&error, Error::Python { .. }), "{error}");
        assert!(error.to_string().starts_with(python) && !error.to_string().contains('\n'), "{error}");
    }
}

/// Eight children of 300 MB each, under 1 GiB for all: none asks for more than a process may have.
const CHILDREN: &str = "
import os, time
for _ in range(8):
    if os.fork() == 0:
        LEAVE
        block = bytearray(b'x') * (300 << 20)
        time.sleep(20)
        os._exit(0)
time.sleep(20)
";

/// The most that the drivers of this program and what they started held together, seen from outside.
fn peak_until(over: &std::sync::atomic::AtomicBool) -> u64 {
    let held = |number: &u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) << 10
    };
    let mut peak = 0;
    while !over.load(std::sync::atomic::Ordering::SeqCst) {
        peak = peak.max(drivers().iter().map(held).sum());
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

fn memory_together() {
    // The second kind leaves its parents behind: each child is a daemon with a session of its own.
    for leave in ["pass", "os.setsid()\n        if os.fork(): os._exit(0)"] {
        for (name, sandbox) in sandboxes() {
            let limits = Limits { wall: Duration::from_secs(15), processes: 24, ..Limits::default() };
            let code = CHILDREN.replace("LEAVE", leave);
            let program = Program { code, judge: Judge::Completes, limits };
            let over = std::sync::atomic::AtomicBool::new(false);
            let (outcome, peak) = std::thread::scope(|scope| {
                let peak = scope.spawn(|| peak_until(&over));
                let outcome = run(sandbox, program.clone());
                over.store(true, std::sync::atomic::Ordering::SeqCst);
                (outcome, peak.join().unwrap())
            });
            let failure = outcome.result.clone().unwrap_err();
            assert_eq!(failure.kind, FailureKind::Memory, "{name}: {outcome:?}");
            assert_eq!(failure.message, "its processes together held more memory than they may", "{name}");
            assert!(outcome.wall < Duration::from_secs(10), "{name}: {outcome:?}");
            // Above the limit by what is touched between two looks at most; without the limit it were 2.4 GB.
            println!("{name}: {} MiB at most", peak >> 20);
            assert!(peak > 512 << 20 && peak < 1600 << 20, "{name}: {} MiB at most", peak >> 20);
            assert!(drivers().is_empty(), "{name}: {:?}", drivers());
            assert_eq!(run(sandbox, completes("print(6 * 7)")).stdout, "42\n", "{name}");
        }
    }
    // The unsandboxed way looks as well.
    let bare = Sandbox::open(&Config { isolation: Isolation::Unsandboxed, ..Config::default() }).unwrap();
    let limits = Limits { wall: Duration::from_secs(15), ..Limits::default() };
    let code = CHILDREN.replace("LEAVE", "pass");
    let outcome = run(&bare, Program { code, judge: Judge::Completes, limits });
    assert_eq!(outcome.result.unwrap_err().kind, FailureKind::Memory);
}

/// 400 MB that three children see as well are 400 MB, though each process by itself holds them.
fn memory_shared() {
    let code = "
import os, time
block = bytearray(b'x') * (400 << 20)
for _ in range(3):
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(block[7] != 120)
for _ in range(3):
    assert os.wait()[1] == 0
print(len(block) >> 20)
";
    for (name, sandbox) in sandboxes() {
        let limits = Limits { wall: Duration::from_secs(15), ..Limits::default() };
        let outcome = run(sandbox, Program { code: code.to_owned(), judge: Judge::Completes, limits });
        assert_eq!(
            (outcome.result.clone(), outcome.stdout.as_str()),
            (Ok(()), "400\n"),
            "{name}: {outcome:?}"
        );
    }
}
