//! Arithmetic with numbers below a hundred.

use super::{Made, Task};
use crate::math::draw::Draw;

pub(super) const TASKS: &[Task] = &[sum, difference, product, double, half, larger, smaller, next];

fn sum(draw: &mut Draw) -> Made {
    let (a, b) = (draw.int(1..=49), draw.int(1..=49));
    let question = draw.pick(&["What is {a} plus {b}?", "Add {a} and {b}.", "Compute {a} + {b}."]);
    made("sum", unordered(a, b), two(question, a, b), a + b)
}

fn difference(draw: &mut Draw) -> Made {
    let (a, b) = (draw.int(1..=49), draw.int(1..=49));
    let (a, b) = (a.max(b), a.min(b));
    let question = draw.pick(&["What is {a} minus {b}?", "Subtract {b} from {a}.", "Compute {a} - {b}."]);
    made("difference", [a, b], two(question, a, b), a - b)
}

fn product(draw: &mut Draw) -> Made {
    let (a, b) = (draw.int(2..=9), draw.int(2..=9));
    let question = draw.pick(&["What is {a} times {b}?", "Multiply {a} by {b}.", "Compute {a} * {b}."]);
    made("product", unordered(a, b), two(question, a, b), a * b)
}

fn double(draw: &mut Draw) -> Made {
    let a = draw.int(1..=49);
    made("double", [a], format!("What is twice {a}?"), 2 * a)
}

fn half(draw: &mut Draw) -> Made {
    let a = draw.int(1..=49);
    made("half", [a], format!("What is half of {}?", 2 * a), a)
}

fn larger(draw: &mut Draw) -> Made {
    let (a, b) = pair(draw);
    made("larger", unordered(a, b), two("Which is larger, {a} or {b}?", a, b), a.max(b))
}

fn smaller(draw: &mut Draw) -> Made {
    let (a, b) = pair(draw);
    made("smaller", unordered(a, b), two("Which is smaller, {a} or {b}?", a, b), a.min(b))
}

fn next(draw: &mut Draw) -> Made {
    let (start, step) = (draw.int(1..=30), draw.int(1..=9));
    let list: Vec<String> = (0..3).map(|i| (start + i * step).to_string()).collect();
    let question = format!("Which number comes next: {}?", list.join(", "));
    made("next", [start, step], question, start + 3 * step)
}

/// The same numbers in the same task are one problem, however it is worded.
fn made<const N: usize>(task: &str, numbers: [i64; N], question: String, answer: i64) -> Made {
    Made { problem: format!("{task} {numbers:?}"), question, answer: answer.to_string() }
}

/// Where the order does not matter.
fn unordered(a: i64, b: i64) -> [i64; 2] {
    [a.min(b), a.max(b)]
}

/// Two different numbers.
fn pair(draw: &mut Draw) -> (i64, i64) {
    let (a, b) = (draw.int(1..=99), draw.int(1..=98));
    (a, if b >= a { b + 1 } else { b })
}

fn two(text: &str, a: i64, b: i64) -> String {
    text.replace("{a}", &a.to_string()).replace("{b}", &b.to_string())
}
