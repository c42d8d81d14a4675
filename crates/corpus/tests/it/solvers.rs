//! Solves generated problems from their wording alone, by methods the generator does not use: substitution,
//! brute force, exact finite differences and quadrature.

use std::cmp::Ordering;

use super::evaluator::{Rational, evaluate, integers, number, runs};

type Outcome = Result<(), String>;
type Solver = fn(&str, &str) -> Outcome;

/// Phrases of the question, and the solver; the first match counts.
const SOLVERS: &[(&str, &[&str], Solver)] = &[
    ("shopping", &["How much change"], shopping),
    ("journey", &["travels for"], journey),
    ("sharing", &["equally among"], sharing),
    ("rectangle", &["rectangular"], rectangle),
    ("ages", &["years older"], ages),
    ("discount", &["The price of a"], discount),
    ("marbles", &["A bag holds"], marbles),
    ("savings", &["dollars and saves"], savings),
    ("percentage", &["% of"], percentage),
    ("division", &["long division", "quotient and remainder"], division),
    ("mean", &["mean", "average"], mean),
    ("gcd", &["greatest common divisor", "divides both", "gcd("], greatest_common_divisor),
    ("lcm", &["least common multiple", "both", "lcm("], least_common_multiple),
    ("primes", &["prime"], primes),
    ("remainder", &["remainder", "modulo"], power_remainder),
    ("series", &["first"], series),
    ("geometric", &["term number"], geometric),
    ("second derivative", &["second derivative", "f''", "twice"], second_derivative),
    ("slope", &["slope", "How steep"], slope),
    ("derivative", &["erivative", "ifferentiate", "f'(x)"], derivative),
    ("integral", &["ntegra"], integral),
    ("extremum", &["minimum", "maximum"], extremum),
    ("limit", &["limit", "tend to"], limit),
    ("system", &["= "], system),
    ("evaluation", &["f(x) ="], evaluation),
    ("roots", &[" = 0"], roots),
    ("equation", &[" = "], equation),
    ("expansion", &["Expand", "Multiply out", "without brackets"], expansion),
    ("expression", &[""], expression),
];

/// The kind of problem, when the answer is right.
pub(crate) fn solve(question: &str, answer: &str) -> Result<&'static str, String> {
    for (topic, phrases, solver) in SOLVERS {
        let is_system = question.matches(" = ").count() == 2 && question.contains('y');
        let fits = match *topic {
            "system" => is_system,
            "roots" => question.contains(" = 0") && question.contains("x^2"),
            _ => phrases.iter().any(|phrase| question.contains(phrase)),
        };
        if fits {
            return solver(question, answer).map(|()| *topic).map_err(|why| format!("{topic}: {why}"));
        }
    }
    Err("no solver".to_owned())
}

fn expect(found: Rational, answer: &str) -> Outcome {
    match number(answer) {
        Some(value) if value == found => Ok(()),
        _ => Err(format!("found {found:?}, the answer is {answer}")),
    }
}

fn expect_int(found: i128, answer: &str) -> Outcome {
    expect(Rational::int(found), answer)
}

fn expect_text(found: String, answer: &str) -> Outcome {
    if found == answer { Ok(()) } else { Err(format!("found {found}, the answer is {answer}")) }
}

fn numbers<const N: usize>(text: &str) -> Result<[i128; N], String> {
    integers(text).try_into().map_err(|all| format!("expected {N} numbers, found {all:?}"))
}

fn shopping(question: &str, answer: &str) -> Outcome {
    let [n, price, m, cost, mut paid] = numbers(question)?;
    (0..n).for_each(|_| paid -= price);
    (0..m).for_each(|_| paid -= cost);
    expect_text(format!("{paid} dollars"), answer)
}

fn journey(question: &str, answer: &str) -> Outcome {
    let [hours, speed, more, faster] = numbers(question)?;
    let km: i128 = (0..hours + more).map(|hour| if hour < hours { speed } else { speed + faster }).sum();
    expect_text(format!("{km} km"), answer)
}

fn sharing(question: &str, answer: &str) -> Outcome {
    let [mut left, parts] = numbers(question)?;
    let mut each = 0;
    while left >= parts {
        left -= parts;
        each += 1;
    }
    expect_text(format!("{each} each, {left} left over"), answer)
}

fn rectangle(question: &str, answer: &str) -> Outcome {
    let [width, longer] = numbers(question)?;
    if question.contains("area") {
        let area: i128 = (0..width).map(|_| width + longer).sum();
        return expect_text(format!("{area} square meters"), answer);
    }
    expect_text(format!("{} m", width + width + longer + width + width + longer), answer)
}

fn ages(question: &str, answer: &str) -> Outcome {
    let [gap, sum] = numbers(question)?;
    let age = (0..sum).find(|age| age + age + gap == sum).ok_or("no age fits")?;
    expect_text(format!("{age} years"), answer)
}

fn discount(question: &str, answer: &str) -> Outcome {
    let [price, percent] = numbers(question)?;
    let factor = if question.contains("raised") { 100 + percent } else { 100 - percent };
    let cents = price * factor;
    if cents % 100 != 0 {
        return Err("not whole dollars".to_owned());
    }
    expect_text(format!("{} dollars", cents / 100), answer)
}

fn marbles(question: &str, answer: &str) -> Outcome {
    let [red, blue, green] = numbers(question)?;
    let bag: Vec<&str> = [("red", red), ("blue", blue), ("green", green)]
        .iter()
        .flat_map(|(color, n)| std::iter::repeat_n(*color, *n as usize))
        .collect();
    let color = question.rsplit(' ').next().unwrap_or_default().trim_end_matches('?');
    let hits = bag.iter().filter(|other| **other == color).count();
    expect(Rational::new(hits as i128, bag.len() as i128), answer)
}

fn savings(question: &str, answer: &str) -> Outcome {
    let [mut money, weekly, price] = numbers(question)?;
    let mut weeks = 0;
    while money < price {
        money += weekly;
        weeks += 1;
    }
    expect_text(format!("{weeks} weeks"), answer)
}

fn percentage(question: &str, answer: &str) -> Outcome {
    let [percent, whole] = numbers(question)?;
    expect(Rational::new(percent * whole, 100), answer)
}

fn division(question: &str, answer: &str) -> Outcome {
    let [a, b] = numbers(question)?;
    let (quotient, rest) = answer.split_once(" remainder ").unwrap_or((answer, "0"));
    let (quotient, rest): (i128, i128) =
        (quotient.parse().map_err(|_| "quotient")?, rest.parse().map_err(|_| "remainder")?);
    if quotient * b + rest == a && (0..b).contains(&rest) {
        Ok(())
    } else {
        Err("does not add up".to_owned())
    }
}

fn mean(question: &str, answer: &str) -> Outcome {
    let all = integers(question);
    expect(Rational::new(all.iter().sum(), all.len() as i128), answer)
}

fn greatest_common_divisor(question: &str, answer: &str) -> Outcome {
    let [a, b] = numbers(question)?;
    let found = (1..=a.min(b)).rev().find(|d| a % d == 0 && b % d == 0).ok_or("none")?;
    expect_int(found, answer)
}

fn least_common_multiple(question: &str, answer: &str) -> Outcome {
    let [a, b] = numbers(question)?;
    let found = (1..=b).map(|k| k * a).find(|multiple| multiple % b == 0).ok_or("none")?;
    expect_int(found, answer)
}

fn primes(question: &str, answer: &str) -> Outcome {
    let [n] = numbers(question)?;
    let mut last = 1;
    for factor in answer.split(" * ") {
        let prime: i128 = factor.split('^').next().unwrap_or_default().parse().map_err(|_| "not a number")?;
        if prime <= last || (2..prime).any(|d| prime % d == 0) {
            return Err(format!("{prime} is not the next prime"));
        }
        last = prime;
    }
    expect_int(n, answer)
}

fn power_remainder(question: &str, answer: &str) -> Outcome {
    let [base, power, modulus] = numbers(question)?;
    expect_int(base.pow(power as u32) % modulus, answer)
}

/// The first three terms of a sequence that goes on with dots.
fn beginning(question: &str) -> Result<[i128; 3], String> {
    let terms = integers(question.split(", ...").next().unwrap_or_default());
    terms[terms.len().saturating_sub(3)..].try_into().map_err(|_| "no sequence".to_owned())
}

fn number_after(question: &str, word: &str) -> Result<i128, String> {
    let rest = question.split(word).nth(1).ok_or("no such word")?;
    integers(rest).first().copied().ok_or_else(|| "no number".to_owned())
}

fn series(question: &str, answer: &str) -> Outcome {
    let [first, second, third] = beginning(question)?;
    if third - second != second - first {
        return Err("steps differ".to_owned());
    }
    let n = number_after(question, "first ")?;
    expect_int((0..n).map(|i| first + i * (second - first)).sum(), answer)
}

fn geometric(question: &str, answer: &str) -> Outcome {
    let [first, second, third] = beginning(question)?;
    if first * third != second * second {
        return Err("ratios differ".to_owned());
    }
    let n = number_after(question, "number ")? as u32;
    expect(Rational::new(second.pow(n - 1), first.pow(n - 2)), answer)
}

/// What stands after `f(x) = `, up to the next word.
fn function(question: &str) -> Result<String, String> {
    let rest = question.split("f(x) = ").nth(1).ok_or("no f(x)")?;
    runs(rest).into_iter().next().ok_or_else(|| "no function".to_owned())
}

fn at(function: &str, x: Rational) -> Result<Rational, String> {
    evaluate(function, x, Rational::int(0)).ok_or_else(|| format!("cannot read {function:?}"))
}

/// Sum of weight * f(x + offset), over `scale`.
fn stencil(f: &str, x: i128, weights: &[(i128, i128)], scale: i128) -> Result<Rational, String> {
    weights.iter().try_fold(Rational::int(0), |sum, (offset, weight)| {
        let value = at(f, Rational::int(x + offset))?;
        Ok(sum.plus(value.times(Rational::new(*weight, scale))))
    })
}

/// Exact for polynomials up to degree 6.
fn first_difference(f: &str, x: i128) -> Result<Rational, String> {
    stencil(f, x, &[(-3, -1), (-2, 9), (-1, -45), (1, 45), (2, -9), (3, 1)], 60)
}

/// Exact for polynomials up to degree 7.
fn second_difference(f: &str, x: i128) -> Result<Rational, String> {
    let weights = [(-3, 2), (-2, -27), (-1, 270), (0, -490), (1, 270), (2, -27), (3, 2)];
    stencil(f, x, &weights, 180)
}

fn same_function(answer: &str, prefix: &str, expected: impl Fn(i128) -> Result<Rational, String>) -> Outcome {
    let found = answer.strip_prefix(prefix).ok_or("answer has another form")?;
    if found.contains('(') {
        return Err("not collected".to_owned());
    }
    // Eight points decide a polynomial of degree 7.
    for x in -4..4 {
        if at(found, Rational::int(x))? != expected(x)? {
            return Err(format!("differs at {x}"));
        }
    }
    Ok(())
}

fn derivative(question: &str, answer: &str) -> Outcome {
    let f = function(question)?;
    same_function(answer, "f'(x) = ", |x| first_difference(&f, x))
}

fn second_derivative(question: &str, answer: &str) -> Outcome {
    let f = function(question)?;
    same_function(answer, "f''(x) = ", |x| second_difference(&f, x))
}

fn slope(question: &str, answer: &str) -> Outcome {
    let x = *integers(question).last().ok_or("no x")?;
    expect(first_difference(&function(question)?, x)?, answer)
}

fn integral(question: &str, answer: &str) -> Outcome {
    let ends = integers(question);
    let [low, high] = ends[ends.len() - 2..] else { return Err("no ends".to_owned()) };
    let readable = |run: &String| run.contains('x') && at(run, Rational::int(1)).is_ok();
    let all = runs(question).into_iter().map(|run| run.trim_start_matches("= ").to_owned());
    let f = all.into_iter().find(readable).ok_or("no function")?;
    // Boole's rule: exact for polynomials up to degree 5.
    let mut sum = Rational::int(0);
    for (i, weight) in [7, 32, 12, 32, 7].into_iter().enumerate() {
        let x = Rational::new(4 * low + (high - low) * i as i128, 4);
        sum = sum.plus(at(&f, x)?.times(Rational::int(weight)));
    }
    expect(sum.times(Rational::new(high - low, 90)), answer)
}

fn extremum(question: &str, answer: &str) -> Outcome {
    let (f, [x, value]) = (function(question)?, numbers(answer)?);
    let better = if question.contains("minimum") { Ordering::Less } else { Ordering::Greater };
    let best = at(&f, Rational::int(x))?;
    if best != Rational::int(value) {
        return Err("wrong value".to_owned());
    }
    // Every half from -30 to 30 is worse.
    for halves in -60..=60 {
        let other = Rational::new(halves, 2);
        if other != Rational::int(x) && at(&f, other)?.compare(best) != better.reverse() {
            return Err(format!("{halves}/2 is as good"));
        }
    }
    Ok(())
}

fn limit(question: &str, answer: &str) -> Outcome {
    let a = *integers(question).last().ok_or("no point")?;
    let f = runs(question).into_iter().find(|run| run.contains(")/(")).ok_or("no function")?;
    // The mean of two points around the hole is exact for what is linear but for the hole.
    let around = [-1, 1].map(|side| at(&f, Rational::new(1000 * a + side, 1000)));
    let [left, right] = around;
    expect(left?.plus(right?).over(Rational::int(2)), answer)
}

fn holds(equation: &str, x: Rational, y: Rational) -> Result<bool, String> {
    let (left, right) = equation.split_once('=').ok_or("no equation")?;
    let side = |text| evaluate(text, x, y).ok_or_else(|| format!("cannot read {text:?}"));
    Ok(side(left)? == side(right)?)
}

fn equations(question: &str) -> Vec<String> {
    runs(question).into_iter().filter(|run| run.contains('=')).collect()
}

fn system(question: &str, answer: &str) -> Outcome {
    let [x, y] = numbers::<2>(answer)?.map(Rational::int);
    let all = equations(question);
    if all.len() == 2 && holds(&all[0], x, y)? && holds(&all[1], x, y)? {
        return Ok(());
    }
    Err(format!("{all:?} do not hold"))
}

fn equation(question: &str, answer: &str) -> Outcome {
    let x = answer.strip_prefix("x = ").and_then(number).ok_or("answer has another form")?;
    let all = equations(question);
    if all.len() == 1 && holds(&all[0], x, Rational::int(0))? { Ok(()) } else { Err(format!("{all:?}")) }
}

fn roots(question: &str, answer: &str) -> Outcome {
    let all = equations(question);
    let mut found = Vec::new();
    for x in -30..=30 {
        if holds(all.first().ok_or("no equation")?, Rational::int(x), Rational::int(0))? {
            found.push(format!("x = {x}"));
        }
    }
    expect_text(found.join(" or "), answer)
}

fn evaluation(question: &str, answer: &str) -> Outcome {
    let x = *integers(question).last().ok_or("no x")?;
    expect(at(&function(question)?, Rational::int(x))?, answer)
}

fn expansion(question: &str, answer: &str) -> Outcome {
    let product = runs(question).into_iter().find(|run| run.contains(")(")).ok_or("no product")?;
    same_function(answer, "", |x| at(&product, Rational::int(x)))
}

fn expression(question: &str, answer: &str) -> Outcome {
    let run = runs(question).into_iter().find(|run| run.trim().contains(' ')).ok_or("no expression")?;
    expect(number(&run).ok_or("cannot read it")?, answer)
}
