//! Small tasks of code: functions of one line, and what expressions give.

use super::{Made, Task};
use crate::math::draw::Draw;

pub(super) const TASKS: &[Task] =
    &[python_function, rust_function, predicate, index, length, reverse, largest, call];

const NAMES: &[&str] = &[
    "apply", "step", "shift", "scale", "next", "change", "adjust", "update", "convert", "compute", "run",
    "work", "rate", "score", "level", "count",
];

/// What is done to `x`, in words and in code.
const OPERATIONS: &[(&str, &str)] =
    &[("plus {n}", "x + {n}"), ("minus {n}", "x - {n}"), ("times {n}", "x * {n}"), ("modulo {n}", "x % {n}")];

fn operation(draw: &mut Draw) -> (&'static str, String, String) {
    let (name, n) = (draw.pick(NAMES), draw.int(2..=20).to_string());
    let (words, code) = draw.pick(OPERATIONS);
    (name, words.replace("{n}", &n), code.replace("{n}", &n))
}

fn python_function(draw: &mut Draw) -> Made {
    let (name, words, code) = operation(draw);
    made(
        format!("Write a Python function {name} that returns x {words}."),
        format!("def {name}(x):\n    return {code}"),
    )
}

fn rust_function(draw: &mut Draw) -> Made {
    let (name, words, code) = operation(draw);
    made(
        format!("Write a Rust function {name} that returns x {words}."),
        format!("fn {name}(x: i64) -> i64 {{ {code} }}"),
    )
}

fn predicate(draw: &mut Draw) -> Made {
    let (name, n) = (draw.pick(NAMES), draw.int(2..=20));
    let (words, sign) = draw.pick(&[("greater than", ">"), ("less than", "<"), ("equal to", "==")]);
    made(
        format!("Write a Rust function {name} that tells whether x is {words} {n}."),
        format!("fn {name}(x: i64) -> bool {{ x {sign} {n} }}"),
    )
}

fn index(draw: &mut Draw) -> Made {
    let list = numbers(draw, 3..=4);
    let i = draw.int(0..=list.len() as i64 - 1);
    made(format!("What does {}[{i}] give in Python?", written(&list)), list[i as usize].to_string())
}

fn length(draw: &mut Draw) -> Made {
    let list = numbers(draw, 1..=6);
    made(format!("What does len({}) give in Python?", written(&list)), list.len().to_string())
}

fn reverse(draw: &mut Draw) -> Made {
    let list = numbers(draw, 2..=4);
    let back: Vec<i64> = list.iter().rev().copied().collect();
    made(format!("Reverse the list {}.", written(&list)), written(&back))
}

fn largest(draw: &mut Draw) -> Made {
    let list = numbers(draw, 3..=3);
    let max = list.iter().copied().max().unwrap_or_default();
    made(format!("What does max({}) give in Python?", written(&list)), max.to_string())
}

fn call(draw: &mut Draw) -> Made {
    let (name, argument) = (draw.pick(NAMES), draw.int(2..=20));
    let variable = draw.pick(&["a", "b", "n", "x", "y", "total", "value", "result"]);
    made(
        format!("Write a line of Python that stores {name} of {argument} in {variable}."),
        format!("{variable} = {name}({argument})"),
    )
}

/// Each of these problems has one wording.
fn made(question: String, answer: String) -> Made {
    Made { problem: question.clone(), question, answer }
}

fn numbers(draw: &mut Draw, count: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    (0..draw.int(count)).map(|_| draw.int(1..=20)).collect()
}

fn written(list: &[i64]) -> String {
    format!("[{}]", list.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
}
