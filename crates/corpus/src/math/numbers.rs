//! Divisors, primes, remainders and sequences.

use super::Worked;
use super::draw::Draw;
use super::notation::gcd;

/// Two numbers that often have a common divisor worth finding.
fn pair(draw: &mut Draw) -> (i64, i64) {
    let common = draw.int(1..=24);
    let (a, b) = (draw.int(2..=60), draw.int(2..=60));
    (common * a.max(b), common * a.min(b))
}

/// The divisions of Euclid's algorithm, one per line.
fn euclid(a: i64, b: i64) -> Vec<String> {
    let (mut a, mut b) = (a, b);
    let mut steps = Vec::new();
    while b != 0 {
        steps.push(format!("{a} = {b} * {} + {}.", a / b, a % b));
        (a, b) = (b, a % b);
    }
    steps
}

pub(super) fn greatest_common_divisor(draw: &mut Draw) -> Worked {
    let (a, b) = pair(draw);
    let question = draw.pick(&[
        "Find the greatest common divisor of {a} and {b}.",
        "What is the largest number that divides both {a} and {b}?",
        "Use Euclid's algorithm to find gcd({a}, {b}).",
    ]);
    let mut steps = vec!["Divide with remainder until nothing is left over.".to_owned()];
    steps.extend(euclid(a, b));
    steps.push(format!("The last divisor is {}, so it is the greatest common divisor.", gcd(a, b)));
    Worked::new(fill(question, a, b), steps, gcd(a, b))
}

pub(super) fn least_common_multiple(draw: &mut Draw) -> Worked {
    let (a, b) = pair(draw);
    let common = gcd(a, b);
    let multiple = a / common * b;
    let question = draw.pick(&[
        "Find the least common multiple of {a} and {b}.",
        "What is the smallest positive number that both {a} and {b} divide?",
        "Find lcm({a}, {b}).",
    ]);
    let steps = vec![
        format!("The greatest common divisor of {a} and {b} is {common}."),
        format!("Divide one number by it: {a} / {common} = {}.", a / common),
        format!("Multiply by the other: {} * {b} = {multiple}.", a / common),
    ];
    Worked::new(fill(question, a, b), steps, multiple)
}

fn fill(question: &str, a: i64, b: i64) -> String {
    question.replace("{a}", &a.to_string()).replace("{b}", &b.to_string())
}

/// The primes of a number in rising order, each as often as it divides.
fn factorise(mut n: i64) -> Vec<i64> {
    let mut primes = Vec::new();
    let mut prime = 2;
    while n > 1 {
        if n % prime == 0 {
            primes.push(prime);
            n /= prime;
        } else {
            prime += 1;
        }
    }
    primes
}

pub(super) fn prime_factors(draw: &mut Draw) -> Worked {
    // Three factors or more, and none so large that nobody would find it.
    let n = loop {
        let n = draw.int(24..=9999);
        let factors = factorise(n);
        if factors.len() >= 3 && factors.iter().all(|prime| *prime < 50) {
            break n;
        }
    };
    let question = draw.pick(&[
        "Find the prime factorization of {}.",
        "Write {} as a product of primes.",
        "Factor {} into primes.",
    ]);
    let mut steps = vec!["Divide by the smallest prime that fits, again and again.".to_owned()];
    let mut powers: Vec<(i64, u32)> = Vec::new();
    let mut left = n;
    for prime in factorise(n) {
        steps.push(format!("{left} / {prime} = {}.", left / prime));
        left /= prime;
        match powers.last_mut() {
            Some((last, power)) if *last == prime => *power += 1,
            _ => powers.push((prime, 1)),
        }
    }
    let factors: Vec<String> = powers
        .iter()
        .map(|(prime, power)| if *power == 1 { prime.to_string() } else { format!("{prime}^{power}") })
        .collect();
    let answer = factors.join(" * ");
    steps.push(format!("So {n} = {answer}."));
    Worked::new(question.replace("{}", &n.to_string()), steps, answer)
}

pub(super) fn power_remainder(draw: &mut Draw) -> Worked {
    let (base, power, modulus) = (draw.int(2..=29), draw.int(3..=7), draw.int(5..=60));
    let question = draw.pick(&[
        "What is the remainder when {a}^{n} is divided by {m}?",
        "Find the remainder of {a}^{n} after division by {m}.",
        "Compute {a}^{n} modulo {m}.",
    ]);
    let mut value = base % modulus;
    let mut steps = vec![format!("Keep only the remainder after each multiplication by {base}.")];
    if base >= modulus {
        steps.push(format!("{base} = {modulus} * {} + {value}.", base / modulus));
    }
    for exponent in 2..=power {
        let product = value * base;
        let rest = product % modulus;
        steps.push(format!(
            "Power {exponent}: {value} * {base} = {product} = {modulus} * {} + {rest}.",
            product / modulus
        ));
        value = rest;
    }
    let question = question
        .replace("{a}", &base.to_string())
        .replace("{n}", &power.to_string())
        .replace("{m}", &modulus.to_string());
    Worked::new(question, steps, value)
}

pub(super) fn arithmetic_series(draw: &mut Draw) -> Worked {
    let (first, difference, count) = (draw.int(1..=40), draw.int(2..=15), draw.int(5..=60));
    let last = first + (count - 1) * difference;
    let sum = count * (first + last) / 2;
    let question = draw.pick(&[
        "Find the sum of the first {n} terms of the sequence {s}.",
        "Add up the first {n} terms of {s}.",
        "The sequence {s} goes on in equal steps. What is the sum of its first {n} terms?",
    ]);
    let start = format!("{first}, {}, {}, ...", first + difference, first + 2 * difference);
    let steps = vec![
        format!("Each term is {difference} more than the one before."),
        format!("The last term is {first} + {} * {difference} = {last}.", count - 1),
        format!("First and last together: {first} + {last} = {}.", first + last),
        format!("The sum is half of {count} times that: {count} * {} / 2 = {sum}.", first + last),
    ];
    Worked::new(question.replace("{n}", &count.to_string()).replace("{s}", &start), steps, sum)
}

pub(super) fn geometric_term(draw: &mut Draw) -> Worked {
    let (first, ratio, n) = (draw.int(2..=150), draw.int(2..=9), draw.int(4..=6));
    let question = draw.pick(&[
        "What is term number {n} of the geometric sequence {s}?",
        "The sequence {s} is geometric. Find term number {n}.",
        "Find term number {n} of {s}, where each term is the same multiple of the one before.",
    ]);
    let start = format!("{first}, {}, {}, ...", first * ratio, first * ratio * ratio);
    let mut steps = vec![format!("The ratio is {} / {first} = {ratio}.", first * ratio)];
    let mut value = first;
    for index in 2..=n {
        steps.push(format!("Term {index}: {value} * {ratio} = {}.", value * ratio));
        value *= ratio;
    }
    Worked::new(question.replace("{n}", &n.to_string()).replace("{s}", &start), steps, value)
}
