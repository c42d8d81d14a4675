//! Equations and polynomials.

use super::Worked;
use super::draw::Draw;
use super::notation::{Fraction, Polynomial, operand, signed, term};

const SOLVE: [&str; 4] =
    ["Solve {} for x.", "Find x if {}.", "Which x satisfies {}?", "Solve the equation {}."];

/// `ax + b` for any a that is not 0.
fn side(a: i64, b: i64) -> String {
    Polynomial(vec![b, a]).to_string()
}

/// The last step: divide by the coefficient.
fn divide(a: i64, c: i64) -> (String, Fraction) {
    let x = Fraction::new(c, a);
    let quotient = format!("{c} / {}", operand(a));
    (format!("Divide by {a}: x = {quotient} = {x}."), x)
}

pub(super) fn linear(draw: &mut Draw) -> Worked {
    let (a, b) = (draw.nonzero(-12..=15), draw.nonzero(-60..=60));
    let a = if a.abs() == 1 { 2 } else { a };
    // Mostly a whole solution.
    let c = if draw.int(0..=3) == 0 { draw.int(-90..=90) } else { a * draw.int(-20..=20) + b };
    let verb = if b > 0 { "Subtract" } else { "Add" };
    let opposite = signed(-b);
    let (last, x) = divide(a, c - b);
    let steps = vec![
        format!("{verb} {} on both sides: {} = {c} {opposite}.", b.abs(), side(a, 0)),
        format!("The right side is {c} {opposite} = {}.", c - b),
        last,
    ];
    Worked::new(draw.pick(&SOLVE).replace("{}", &format!("{} = {c}", side(a, b))), steps, format!("x = {x}"))
}

pub(super) fn linear_both_sides(draw: &mut Draw) -> Worked {
    let (a, c) = (draw.int(5..=20), draw.int(1..=4));
    let b = draw.nonzero(-40..=40);
    let slope = a - c;
    let d = if draw.int(0..=3) == 0 { draw.nonzero(-60..=60) } else { slope * draw.int(-15..=15) + b };
    let x = Fraction::new(d - b, slope);
    let mut steps = vec![
        format!("Take {} from both sides: {} = {d}.", term(c, 1), side(slope, b)),
        format!(
            "{} {} on both sides: {} = {}.",
            if b > 0 { "Subtract" } else { "Add" },
            b.abs(),
            side(slope, 0),
            d - b
        ),
    ];
    if slope != 1 {
        steps.push(divide(slope, d - b).0);
    }
    let equation = format!("{} = {}", side(a, b), side(c, d));
    Worked::new(draw.pick(&SOLVE).replace("{}", &equation), steps, format!("x = {x}"))
}

pub(super) fn linear_brackets(draw: &mut Draw) -> Worked {
    let (a, b, c) = (draw.int(2..=12), draw.nonzero(-15..=15), draw.nonzero(-30..=30));
    let x = draw.int(-15..=20);
    let right = a * (x + b) + c;
    let equation = format!("{a}({}) {} = {right}", side(1, b), signed(c));
    let steps = vec![
        format!(
            "{} {} on both sides: {a}({}) = {}.",
            if c > 0 { "Subtract" } else { "Add" },
            c.abs(),
            side(1, b),
            right - c
        ),
        format!("Divide by {a}: {} / {a} = {}, so {} = {}.", right - c, x + b, side(1, b), x + b),
        format!("Then x = {} {} = {x}.", x + b, signed(-b)),
    ];
    Worked::new(draw.pick(&SOLVE).replace("{}", &equation), steps, format!("x = {x}"))
}

pub(super) fn system(draw: &mut Draw) -> Worked {
    let (x, y) = (draw.int(-9..=12), draw.int(-9..=12));
    let (a, b, c, d) = loop {
        let (a, b, c, d) = (draw.int(1..=7), draw.int(1..=7), draw.int(1..=7), draw.int(-7..=-1));
        if a * d != b * c {
            break (a, b, c, d);
        }
    };
    let (first, second) = (a * x + b * y, c * x + d * y);
    let line = |a: i64, b: i64| {
        let y = if b.abs() == 1 { "y".to_owned() } else { format!("{}y", b.abs()) };
        format!("{} {} {y}", term(a, 1), if b < 0 { "-" } else { "+" })
    };
    let question = draw.pick(&[
        "Solve the system {p} and {q}.",
        "Find x and y such that {p} and {q}.",
        "Two lines are given by {p} and {q}. Where do they meet?",
    ]);
    let (determinant, sum) = (b * c - a * d, b * second - d * first);
    let steps = vec![
        format!("Multiply the first equation by {} and the second by {b}, and add: y goes.", -d),
        format!("The factor of x is {a} * {} + {c} * {b} = {determinant}.", -d),
        format!("The right side is {} * {} + {} * {b} = {sum}.", operand(first), -d, operand(second)),
        format!("So x = {sum} / {determinant} = {x}."),
        format!(
            "From the first equation, {}y = {first} - {a} * {} = {}, so y = {y}.",
            if b == 1 { String::new() } else { b.to_string() },
            operand(x),
            first - a * x
        ),
    ];
    let (p, q) = (format!("{} = {first}", line(a, b)), format!("{} = {second}", line(c, d)));
    Worked::new(question.replace("{p}", &p).replace("{q}", &q), steps, format!("x = {x}, y = {y}"))
}

/// `(x - r)` for the root r.
fn factor(root: i64) -> String {
    format!("({})", side(1, -root))
}

pub(super) fn quadratic(draw: &mut Draw) -> Worked {
    let (r, s) = (draw.nonzero(-25..=25), draw.nonzero(-25..=25));
    let (low, high) = (r.min(s), r.max(s));
    let scale = draw.int(1..=9);
    let (sum, product) = (-(low + high), low * high);
    let plain = Polynomial(vec![product, sum, 1]);
    let asked = Polynomial(vec![scale * product, scale * sum, scale]);
    let question = draw.pick(&[
        "Solve {} = 0 by factoring.",
        "Find all x with {} = 0.",
        "What are the solutions of {} = 0?",
        "Find the roots of {} = 0.",
    ]);
    let mut steps = Vec::new();
    if scale > 1 {
        steps.push(format!("Divide by {scale}: {plain} = 0."));
    }
    let (first, second) = (operand(-low), operand(-high));
    steps.push(format!("Look for two numbers with product {product} and sum {sum}."));
    steps.push(format!(
        "They are {} and {}: {first} * {second} = {product} and {first} + {second} = {sum}.",
        -low, -high
    ));
    steps.push(format!("So {plain} = {}{}.", factor(low), factor(high)));
    steps.push("A product is 0 when one of its factors is 0.".to_owned());
    let answer = if low == high { format!("x = {low}") } else { format!("x = {low} or x = {high}") };
    Worked::new(question.replace("{}", &asked.to_string()), steps, answer)
}

pub(super) fn expansion(draw: &mut Draw) -> Worked {
    let (a, c) = (draw.int(1..=6), draw.int(1..=6));
    let (b, d) = (draw.nonzero(-12..=12), draw.nonzero(-12..=12));
    let product = Polynomial(vec![b * d, a * d + b * c, a * c]);
    let question =
        draw.pick(&["Expand {}.", "Multiply out {}.", "Write {} without brackets and collect the terms."]);
    let steps = vec![
        format!("First terms: {} * {} = {}.", term(a, 1), term(c, 1), term(a * c, 2)),
        format!(
            "Outer and inner terms: {a} * {} + {} * {c} = {}, the factor of x.",
            operand(d),
            operand(b),
            a * d + b * c
        ),
        format!("Last terms: {} * {} = {}.", operand(b), operand(d), b * d),
    ];
    Worked::new(question.replace("{}", &format!("({})({})", side(a, b), side(c, d))), steps, product)
}

pub(super) fn evaluation(draw: &mut Draw) -> Worked {
    let polynomial = Polynomial(vec![
        draw.nonzero(-20..=20),
        draw.nonzero(-12..=12),
        draw.nonzero(-6..=6),
        draw.int(0..=3),
    ]);
    let x = draw.nonzero(-6..=9);
    let question = draw.pick(&[
        "Let f(x) = {f}. Find f({x}).",
        "Evaluate f(x) = {f} at x = {x}.",
        "What is the value of f(x) = {f} when x = {x}?",
    ]);
    let mut steps = vec![format!("Put {x} in the place of x: {}.", polynomial.with_number(x))];
    let values: Vec<i64> = polynomial.terms().iter().map(|(c, power)| c * x.pow(*power as u32)).collect();
    let list: Vec<String> = values.iter().map(i64::to_string).collect();
    steps.push(format!("The terms are {}.", list.join(", ")));
    let sum: Vec<String> = values.iter().map(|value| operand(*value)).collect();
    steps.push(format!("Their sum is {} = {}.", sum.join(" + "), polynomial.at(x)));
    let question = question.replace("{f}", &polynomial.to_string()).replace("{x}", &x.to_string());
    Worked::new(question, steps, polynomial.at(x))
}
