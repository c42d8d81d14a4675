//! Sums, products, divisions, fractions, percentages.

use super::Worked;
use super::draw::Draw;
use super::notation::{Fraction, gcd, hundredths};

const PLACES: [&str; 6] = ["ones", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands"];

/// The digits of a number, ones first.
fn digits(mut n: i64) -> Vec<i64> {
    let mut out = Vec::new();
    while n > 0 {
        out.push(n % 10);
        n /= 10;
    }
    out
}

pub(super) fn addition(draw: &mut Draw) -> Worked {
    let (a, b) = (draw.digits(2..=5), draw.digits(2..=5));
    let question =
        draw.pick(&["Compute {}.", "What is {}?", "Work out {} column by column.", "Find the sum {}."]);
    let mut steps = Vec::new();
    let (left, right) = (digits(a), digits(b));
    let mut carry = 0;
    for (place, name) in PLACES.iter().enumerate().take(left.len().max(right.len())) {
        let (x, y) = (left.get(place).copied().unwrap_or(0), right.get(place).copied().unwrap_or(0));
        let sum = x + y + carry;
        let carried = if carry > 0 { " + 1" } else { "" };
        carry = sum / 10;
        let rest = if carry > 0 { format!(", write {} and carry 1", sum % 10) } else { String::new() };
        steps.push(format!("Add the {name}: {x} + {y}{carried} = {sum}{rest}."));
    }
    steps.push(format!("So {a} + {b} = {}.", a + b));
    Worked::new(question.replace("{}", &format!("{a} + {b}")), steps, a + b)
}

pub(super) fn subtraction(draw: &mut Draw) -> Worked {
    let (x, y) = (draw.digits(3..=5), draw.digits(2..=4));
    let (a, b) = (x.max(y), x.min(y));
    let question =
        draw.pick(&["Compute {}.", "What is {}?", "Find the difference {}.", "Work out {} place by place."]);
    let mut steps = Vec::new();
    let mut left = a;
    for (place, digit) in digits(b).into_iter().enumerate().rev().filter(|(_, digit)| *digit > 0) {
        let part = digit * 10i64.pow(place as u32);
        steps.push(format!("Take away the {}: {left} - {part} = {}.", PLACES[place], left - part));
        left -= part;
    }
    steps.push(format!("So {a} - {b} = {}.", a - b));
    Worked::new(question.replace("{}", &format!("{a} - {b}")), steps, a - b)
}

pub(super) fn multiplication(draw: &mut Draw) -> Worked {
    let (a, b) = (draw.digits(2..=4), draw.digits(2..=3));
    let question = draw.pick(&["Compute {}.", "What is {}?", "Multiply: {}.", "Find the product {}."]);
    let parts: Vec<i64> = digits(b)
        .into_iter()
        .enumerate()
        .rev()
        .map(|(place, digit)| digit * 10i64.pow(place as u32))
        .filter(|part| *part > 0)
        .collect();
    let list = parts.iter().map(i64::to_string).collect::<Vec<_>>().join(" + ");
    let mut steps = vec![format!("Split the second factor: {b} = {list}.")];
    steps.extend(parts.iter().map(|part| format!("{a} * {part} = {}.", a * part)));
    let products = parts.iter().map(|part| (a * part).to_string()).collect::<Vec<_>>().join(" + ");
    steps.push(format!("Add the parts: {products} = {}.", a * b));
    Worked::new(question.replace("{}", &format!("{a} * {b}")), steps, a * b)
}

pub(super) fn long_division(draw: &mut Draw) -> Worked {
    let (a, b) = (draw.digits(3..=5), draw.int(2..=25));
    let question = draw.pick(&[
        "Divide {a} by {b} with long division.",
        "What are quotient and remainder when {a} is divided by {b}?",
        "Do the long division of {a} by {b}.",
    ]);
    let mut steps = Vec::new();
    let mut rest = 0;
    let mut begun = false;
    for digit in digits(a).into_iter().rev() {
        let current = rest * 10 + digit;
        rest = current % b;
        if current < b && !begun {
            continue;
        }
        let how = if begun { format!("Bring down {digit}") } else { "Start".to_owned() };
        steps.push(format!("{how}: {current} = {b} * {} + {rest}.", current / b));
        begun = true;
    }
    let (quotient, remainder) = (a / b, a % b);
    steps.push(format!("Check: {b} * {quotient} + {remainder} = {a}."));
    let answer =
        if remainder == 0 { quotient.to_string() } else { format!("{quotient} remainder {remainder}") };
    Worked::new(question.replace("{a}", &a.to_string()).replace("{b}", &b.to_string()), steps, answer)
}

pub(super) fn order_of_operations(draw: &mut Draw) -> Worked {
    let question = draw.pick(&["Evaluate {}.", "What is the value of {}?", "Simplify {}."]);
    let (a, b, c, d) = (draw.int(2..=60), draw.int(2..=60), draw.int(2..=12), draw.int(2..=90));
    let (expression, steps, value) = match draw.int(0..=3) {
        0 => {
            let (sum, product) = (a + b, (a + b) * c);
            let steps = vec![
                format!("Brackets come first: {a} + {b} = {sum}."),
                format!("Then the product: {sum} * {c} = {product}."),
                format!("Last the difference: {product} - {d} = {}.", product - d),
            ];
            (format!("({a} + {b}) * {c} - {d}"), steps, product - d)
        }
        1 => {
            let product = b * c;
            let steps = vec![
                format!("The product comes before the sum: {b} * {c} = {product}."),
                format!("From left to right: {a} + {product} = {}.", a + product),
                format!("Then {} - {d} = {}.", a + product, a + product - d),
            ];
            (format!("{a} + {b} * {c} - {d}"), steps, a + product - d)
        }
        2 => {
            let dividend = b * c;
            let steps = vec![
                format!("The division comes first: {dividend} / {c} = {b}."),
                format!("The product is next: {a} * {d} = {}.", a * d),
                format!("Subtract: {} - {b} = {}.", a * d, a * d - b),
            ];
            (format!("{a} * {d} - {dividend} / {c}"), steps, a * d - b)
        }
        _ => {
            let square = c * c;
            let steps = vec![
                format!("The power comes first: {c}^2 = {square}."),
                format!("Then the product: {a} * {square} = {}.", a * square),
                format!("Then the sum: {} + {d} = {}.", a * square, a * square + d),
            ];
            (format!("{a} * {c}^2 + {d}"), steps, a * square + d)
        }
    };
    Worked::new(question.replace("{}", &expression), steps, value)
}

pub(super) fn decimals(draw: &mut Draw) -> Worked {
    let (x, y) = (draw.int(105..=99_999), draw.int(105..=49_999));
    let add = draw.int(0..=1) == 0;
    let (a, b) = if add { (x, y) } else { (x.max(y), x.min(y)) };
    let (sign, value) = if add { ("+", a + b) } else { ("-", a - b) };
    let expression = format!("{} {sign} {}", hundredths(a), hundredths(b));
    let question = draw.pick(&["Compute {}.", "What is {}?", "Work out {} with the decimal points in line."]);
    let steps = vec![
        "Count in hundredths, so that both numbers are whole.".to_owned(),
        format!("{} is {a} hundredths and {} is {b} hundredths.", hundredths(a), hundredths(b)),
        format!("{a} {sign} {b} = {value}."),
        format!("{value} hundredths are {}.", hundredths(value)),
    ];
    Worked::new(question.replace("{}", &expression), steps, hundredths(value))
}

pub(super) fn fraction_sum(draw: &mut Draw) -> Worked {
    let (b, d) = (draw.int(2..=15), draw.int(2..=15));
    let (a, c) = (draw.int(1..=2 * b), draw.int(1..=2 * d));
    let add = draw.int(0..=1) == 0;
    let sign = if add { "+" } else { "-" };
    let common = b / gcd(b, d) * d;
    let (x, y) = (a * (common / b), c * (common / d));
    let top = if add { x + y } else { x - y };
    let value = Fraction::new(top, common);
    let question = draw.pick(&[
        "Compute {} and simplify.",
        "What is {} in lowest terms?",
        "Write {} as one fraction in lowest terms.",
    ]);
    let mut steps = vec![
        format!("The common denominator of {b} and {d} is {common}."),
        format!("{a}/{b} = {x}/{common} and {c}/{d} = {y}/{common}."),
        format!("{x}/{common} {sign} {y}/{common} = {top}/{common}."),
    ];
    steps.push(reduction(top, common, value));
    Worked::new(question.replace("{}", &format!("{a}/{b} {sign} {c}/{d}")), steps, value)
}

pub(super) fn fraction_product(draw: &mut Draw) -> Worked {
    let (a, b, c, d) = (draw.int(1..=15), draw.int(2..=15), draw.int(1..=15), draw.int(2..=15));
    let multiply = draw.int(0..=1) == 0;
    let question = draw.pick(&["Compute {} and simplify.", "What is {} in lowest terms?", "Simplify {}."]);
    let (p, q) = if multiply { (c, d) } else { (d, c) };
    let mut steps = Vec::new();
    let expression = if multiply {
        steps.push("Multiply the tops and multiply the bottoms.".to_owned());
        format!("{a}/{b} * {c}/{d}")
    } else {
        steps.push(format!("To divide by {c}/{d}, multiply by {d}/{c}."));
        format!("({a}/{b}) / ({c}/{d})")
    };
    let (top, bottom) = (a * p, b * q);
    steps.push(format!("{a} * {p} = {top} and {b} * {q} = {bottom}, which gives {top}/{bottom}."));
    let value = Fraction::new(top, bottom);
    steps.push(reduction(top, bottom, value));
    Worked::new(question.replace("{}", &expression), steps, value)
}

/// The step that brings a fraction to lowest terms.
fn reduction(top: i64, bottom: i64, value: Fraction) -> String {
    let common = gcd(top, bottom);
    if top == 0 {
        format!("A fraction with 0 on top is 0: {top}/{bottom} = 0.")
    } else if common == 1 {
        format!("{top} and {bottom} have no common factor, so {top}/{bottom} stays as it is.")
    } else {
        format!("Divide top and bottom by {common}: {top}/{bottom} = {value}.")
    }
}

pub(super) fn percentage(draw: &mut Draw) -> Worked {
    let (percent, whole) = (draw.int(1..=39) * 5, draw.int(2..=150) * 20);
    let part = percent * whole / 100;
    let tenth = whole / 10;
    let question = draw.pick(&["What is {p}% of {n}?", "Find {p}% of {n}.", "Calculate {p}% of {n}."]);
    let steps = vec![
        format!("{percent}% means {percent} of every 100."),
        format!("10% of the number is {whole} / 10 = {tenth}."),
        format!("{percent}% is {percent}/10 times as much, and {tenth} * {percent} / 10 = {part}."),
    ];
    Worked::new(question.replace("{p}", &percent.to_string()).replace("{n}", &whole.to_string()), steps, part)
}

pub(super) fn mean(draw: &mut Draw) -> Worked {
    let count = draw.int(3..=6);
    let mut values: Vec<i64> = (1..count).map(|_| draw.int(2..=120)).collect();
    // The last number makes the sum divisible.
    let missing = (count - values.iter().sum::<i64>() % count) % count;
    values.push(missing + count * draw.int(1..=15));
    let sum: i64 = values.iter().sum();
    let list = values.iter().map(i64::to_string).collect::<Vec<_>>();
    let question = draw.pick(&[
        "Find the mean of {}.",
        "What is the average of {}?",
        "A student measures {}. What is the mean?",
    ]);
    let steps = vec![
        format!("There are {count} numbers."),
        format!("Their sum is {} = {sum}.", list.join(" + ")),
        format!("Divide by how many there are: {sum} / {count} = {}.", sum / count),
    ];
    Worked::new(question.replace("{}", &list.join(", ")), steps, sum / count)
}
