//! Arithmetic with numbers below a hundred.

use super::Task;
use crate::math::draw::Draw;

pub(super) const TASKS: &[Task] = &[sum, difference, product, double, half, larger, smaller, next];

fn sum(draw: &mut Draw) -> (String, String) {
    let (a, b) = (draw.int(1..=49), draw.int(1..=49));
    let question = draw.pick(&["What is {a} plus {b}?", "Add {a} and {b}.", "Compute {a} + {b}."]);
    (two(question, a, b), (a + b).to_string())
}

fn difference(draw: &mut Draw) -> (String, String) {
    let (a, b) = (draw.int(1..=49), draw.int(1..=49));
    let (a, b) = (a.max(b), a.min(b));
    let question = draw.pick(&["What is {a} minus {b}?", "Subtract {b} from {a}.", "Compute {a} - {b}."]);
    (two(question, a, b), (a - b).to_string())
}

fn product(draw: &mut Draw) -> (String, String) {
    let (a, b) = (draw.int(2..=9), draw.int(2..=9));
    let question = draw.pick(&["What is {a} times {b}?", "Multiply {a} by {b}.", "Compute {a} * {b}."]);
    (two(question, a, b), (a * b).to_string())
}

fn double(draw: &mut Draw) -> (String, String) {
    let a = draw.int(1..=49);
    (format!("What is twice {a}?"), (2 * a).to_string())
}

fn half(draw: &mut Draw) -> (String, String) {
    let a = draw.int(1..=49);
    (format!("What is half of {}?", 2 * a), a.to_string())
}

fn larger(draw: &mut Draw) -> (String, String) {
    let (a, b) = pair(draw);
    (two("Which is larger, {a} or {b}?", a, b), a.max(b).to_string())
}

fn smaller(draw: &mut Draw) -> (String, String) {
    let (a, b) = pair(draw);
    (two("Which is smaller, {a} or {b}?", a, b), a.min(b).to_string())
}

fn next(draw: &mut Draw) -> (String, String) {
    let (start, step) = (draw.int(1..=30), draw.int(1..=9));
    let list: Vec<String> = (0..3).map(|i| (start + i * step).to_string()).collect();
    (format!("Which number comes next: {}?", list.join(", ")), (start + 3 * step).to_string())
}

/// Two different numbers.
fn pair(draw: &mut Draw) -> (i64, i64) {
    let (a, b) = (draw.int(1..=99), draw.int(1..=98));
    (a, if b >= a { b + 1 } else { b })
}

fn two(text: &str, a: i64, b: i64) -> String {
    text.replace("{a}", &a.to_string()).replace("{b}", &b.to_string())
}
