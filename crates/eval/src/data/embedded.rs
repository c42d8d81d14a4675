//! Sets that need no file: arithmetic that is generated from fixed seeds, small functions to write, and a short text.

use serde_json::{Value, json};

use crate::python::PythonRandom;
use crate::tasks::Doc;

/// How many problems a split has.
const TRAIN: usize = 64;
const TEST: usize = 200;

const NAMES: [&str; 8] = ["Ada", "Ben", "Cleo", "Dev", "Emi", "Finn", "Gus", "Hana"];
const THINGS: [&str; 8] = ["apples", "books", "coins", "drums", "eggs", "forks", "kites", "pens"];

/// The documents of an embedded set; `None` where there is no such set or split.
pub(super) fn documents(name: &str, split: &str) -> Option<Vec<Doc>> {
    match (name, split) {
        ("arithmetic", "train") => Some(arithmetic(20_240_104, TRAIN)),
        ("arithmetic", "test") => Some(arithmetic(20_240_105, TEST)),
        ("code", "test") => Some(code()),
        ("prose", "test") => Some(PROSE.iter().map(|page| doc(json!({ "page": page }))).collect()),
        _ => None,
    }
}

fn doc(value: Value) -> Doc {
    match value {
        Value::Object(doc) => doc,
        _ => Doc::new(),
    }
}

fn arithmetic(seed: u64, count: usize) -> Vec<Doc> {
    let mut random = PythonRandom::new(seed);
    let mut below = |n: usize| random.choice(n) as i64;
    let problem = |_| {
        let (name, thing) = (NAMES[below(8) as usize], THINGS[below(8) as usize]);
        let (question, answer) = match below(3) {
            0 => {
                let (a, b) = (below(90) + 10, below(90) + 10);
                (
                    format!(
                        "{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?"
                    ),
                    a + b,
                )
            }
            1 => {
                let b = below(40) + 5;
                let a = b + below(50) + 1;
                (
                    format!(
                        "{name} has {a} {thing} and gives away {b}. How many {thing} does {name} have left?"
                    ),
                    a - b,
                )
            }
            _ => {
                let (a, b) = (below(11) + 2, below(11) + 2);
                (format!("{name} has {a} boxes with {b} {thing} in each. How many {thing} is that?"), a * b)
            }
        };
        // Three wrong answers close by, all different, and the right one anywhere among them.
        let mut choices: Vec<i64> = Vec::from([answer]);
        while choices.len() < 4 {
            let wrong = answer + below(21) - 10;
            if wrong > 0 && !choices.contains(&wrong) {
                choices.push(wrong);
            }
        }
        let gold = below(4) as usize;
        choices.swap(0, gold);
        let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
        doc(json!({ "question": question, "answer": answer.to_string(), "choices": choices, "gold": gold }))
    };
    (0..count).map(problem).collect()
}

/// Signature, what it does, and tests of functions that take one line.
const FUNCTIONS: [(&str, &str, &[&str]); 12] = [
    ("add(a, b)", "The sum of a and b.", &["add(2, 3) == 5", "add(-1, 1) == 0"]),
    ("double(x)", "Twice x.", &["double(4) == 8", "double(0) == 0"]),
    ("is_even(n)", "Whether n is even.", &["is_even(4) is True", "is_even(7) is False"]),
    (
        "largest(numbers)",
        "The largest of a list of numbers.",
        &["largest([3, 9, 2]) == 9", "largest([-5]) == -5"],
    ),
    (
        "count_vowels(text)",
        "How many of the letters a, e, i, o, u the text has.",
        &["count_vowels('banana') == 3"],
    ),
    ("reverse(text)", "The text from back to front.", &["reverse('abc') == 'cba'", "reverse('') == ''"]),
    (
        "first(items)",
        "The first item, or None of an empty list.",
        &["first([7, 8]) == 7", "first([]) is None"],
    ),
    ("squares(n)", "The squares of 0 to n - 1.", &["squares(4) == [0, 1, 4, 9]", "squares(0) == []"]),
    ("absolute(x)", "x without its sign.", &["absolute(-3) == 3", "absolute(3) == 3"]),
    ("join_words(words)", "The words with one blank between them.", &["join_words(['a', 'b']) == 'a b'"]),
    ("factorial(n)", "The product of 1 to n.", &["factorial(5) == 120", "factorial(0) == 1"]),
    (
        "clamp(x, low, high)",
        "x, but no less than low and no more than high.",
        &["clamp(5, 0, 3) == 3", "clamp(-1, 0, 3) == 0"],
    ),
];

fn code() -> Vec<Doc> {
    let problem = |(signature, what, tests): &(&str, &str, &[&str])| {
        let prompt = format!("def {signature}:\n    \"\"\"{what}\"\"\"\n");
        let tests: Vec<String> = tests.iter().map(|test| format!("assert {test}")).collect();
        doc(json!({ "prompt": prompt, "test": tests.join("\n") }))
    };
    FUNCTIONS.iter().map(problem).collect()
}

/// A text of this project's own.
const PROSE: [&str; 4] = [
    "The mill by the river had stood still for eleven years when Nora came back. Moss had grown over the wheel, and \
     a family of wagtails had built their nest where the grain used to fall. She opened the door with the key that \
     her aunt had sent her. Inside it smelled of dust and old rope. On the table lay the ledger, and beside it a \
     pencil, as if somebody had only gone out to look at the weather.",
    "A good map leaves most things out. It does not show the trees, nor the colour of the roofs, nor how long the \
     shadow of the church is in the afternoon. What it shows is how to get from one place to another. A good test is \
     much the same: it does not repeat the program, it says what must be true when the program is done.",
    "Bread needs four things: flour, water, salt and time. The first three can be weighed. The last one cannot, and \
     so it is the one that most people get wrong. When the kitchen is cold the dough wants to rest through the night. \
     When it is warm, two hours may be enough. Press it with a finger: if the hollow comes back slowly, it is ready.",
    "In the morning the harbour was white with fog. The fishermen waited. One of them told the story of the year in \
     which the fog had stayed for nine days, and in which the baker had sold his bread by the sound of a bell. Nobody \
     believed him, but everybody listened, because there was nothing else to do until the wind changed.",
];
