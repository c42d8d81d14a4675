//! Derivatives, integrals and limits of polynomials.

use super::Worked;
use super::draw::Draw;
use super::notation::{Fraction, Polynomial, operand, signed};

/// A polynomial of degree 2 to `degree`, with at least two terms.
fn polynomial(draw: &mut Draw, degree: i64) -> Polynomial {
    let degree = draw.int(2..=degree) as usize;
    let mut coefficients: Vec<i64> = (0..=degree).map(|_| draw.int(-9..=9)).collect();
    coefficients[degree] = draw.nonzero(-6..=8);
    coefficients[1] = draw.nonzero(-12..=12);
    Polynomial(coefficients)
}

/// How each term is differentiated, one step per term.
fn power_rule(f: &Polynomial) -> Vec<String> {
    f.terms()
        .into_iter()
        .map(|(c, power)| {
            let from = Polynomial(monomial(c, power));
            if power == 0 {
                return format!("The constant {c} has derivative 0.");
            }
            format!("The derivative of {from} is {}.", from.derivative())
        })
        .collect()
}

fn monomial(c: i64, power: usize) -> Vec<i64> {
    let mut coefficients = vec![0; power + 1];
    coefficients[power] = c;
    coefficients
}

pub(super) fn derivative(draw: &mut Draw) -> Worked {
    let f = polynomial(draw, 5);
    let question = draw.pick(&[
        "Differentiate f(x) = {}.",
        "Find the derivative of f(x) = {}.",
        "What is f'(x) if f(x) = {}?",
    ]);
    let mut steps = vec!["Use the power rule on each term.".to_owned()];
    steps.extend(power_rule(&f));
    Worked::new(question.replace("{}", &f.to_string()), steps, format!("f'(x) = {}", f.derivative()))
}

pub(super) fn slope(draw: &mut Draw) -> Worked {
    let f = polynomial(draw, 4);
    let x = draw.int(-4..=5);
    let df = f.derivative();
    let question = draw.pick(&[
        "Find the slope of the curve f(x) = {f} at x = {x}.",
        "What is the slope of the tangent to f(x) = {f} at x = {x}?",
        "How steep is the graph of f(x) = {f} at x = {x}?",
    ]);
    let steps = vec![
        "The slope is the value of the derivative.".to_owned(),
        format!("By the power rule f'(x) = {df}."),
        format!("At x = {x}: {} = {}.", df.with_number(x), df.at(x)),
    ];
    Worked::new(question.replace("{f}", &f.to_string()).replace("{x}", &x.to_string()), steps, df.at(x))
}

pub(super) fn product_rule(draw: &mut Draw) -> Worked {
    let u = Polynomial(vec![draw.nonzero(-9..=9), draw.int(1..=7)]);
    let v = Polynomial(vec![draw.nonzero(-9..=9), draw.int(-5..=5), draw.int(1..=5)]);
    let (du, dv) = (u.derivative(), v.derivative());
    let mut product = Polynomial(vec![0; 4]);
    for (i, a) in u.0.iter().enumerate() {
        for (j, b) in v.0.iter().enumerate() {
            product.0[i + j] += a * b;
        }
    }
    let question = draw.pick(&[
        "Use the product rule to differentiate f(x) = ({u})({v}).",
        "Find the derivative of f(x) = ({u})({v}).",
        "Differentiate f(x) = ({u})({v}).",
    ]);
    let steps = vec![
        "The derivative of a product u v is u' v + u v'.".to_owned(),
        format!("Here u = {u} with u' = {du}, and v = {v} with v' = {dv}."),
        format!("So f'(x) = {du}({v}) + ({u})({dv})."),
        "Multiply out and collect the powers of x.".to_owned(),
    ];
    let question = question.replace("{u}", &u.to_string()).replace("{v}", &v.to_string());
    Worked::new(question, steps, format!("f'(x) = {}", product.derivative()))
}

pub(super) fn second_derivative(draw: &mut Draw) -> Worked {
    let f = polynomial(draw, 5);
    let (first, second) = (f.derivative(), f.derivative().derivative());
    let question = draw.pick(&[
        "Find the second derivative of f(x) = {}.",
        "What is f''(x) for f(x) = {}?",
        "Differentiate f(x) = {} twice.",
    ]);
    let steps = vec![
        "Differentiate once, term by term, and then once more.".to_owned(),
        format!("f'(x) = {first}."),
        format!("f''(x) = {second}."),
    ];
    Worked::new(question.replace("{}", &f.to_string()), steps, format!("f''(x) = {second}"))
}

pub(super) fn definite_integral(draw: &mut Draw) -> Worked {
    let f = polynomial(draw, 3);
    let low = draw.int(-3..=2);
    let high = low + draw.int(1..=4);
    let at = |x: i64| {
        f.0.iter().enumerate().fold(Fraction::new(0, 1), |sum, (i, c)| {
            sum.plus(Fraction::new(c * x.pow(i as u32 + 1), i as i64 + 1))
        })
    };
    let antiderivative: Vec<String> = f
        .terms()
        .into_iter()
        .map(|(c, power)| {
            let ratio = Fraction::new(c, power as i64 + 1);
            let x = if power == 0 { "x".to_owned() } else { format!("x^{}", power + 1) };
            let factor = match ratio {
                Fraction { top: 1, bottom: 1 } => String::new(),
                Fraction { top: -1, bottom: 1 } => "-".to_owned(),
                Fraction { bottom: 1, .. } => ratio.to_string(),
                _ => format!("({ratio})"),
            };
            format!("{factor}{x}")
        })
        .collect();
    let (top, bottom) = (at(high), at(low));
    let value = top.minus(bottom);
    let question = draw.pick(&[
        "Compute the integral of {f} from x = {a} to x = {b}.",
        "Integrate {f} over the interval from {a} to {b}.",
        "Find the definite integral of f(x) = {f} from {a} to {b}.",
    ]);
    let wrapped = if bottom.top < 0 { format!("({bottom})") } else { bottom.to_string() };
    let steps = vec![
        format!("The terms of an antiderivative F(x) are {}.", antiderivative.join(", ")),
        format!("At the upper end F({high}) = {top}."),
        format!("At the lower end F({low}) = {bottom}."),
        format!("The integral is the difference: {top} - {wrapped} = {value}."),
    ];
    let question = question
        .replace("{f}", &f.to_string())
        .replace("{a}", &low.to_string())
        .replace("{b}", &high.to_string());
    Worked::new(question, steps, value)
}

pub(super) fn extremum(draw: &mut Draw) -> Worked {
    let (a, x) = (draw.nonzero(-5..=5), draw.int(-9..=9));
    let constant = draw.int(-30..=30);
    let f = Polynomial(vec![constant, -2 * a * x, a]);
    let kind = if a > 0 { "minimum" } else { "maximum" };
    let question = draw.pick(&[
        "Where does f(x) = {f} have its {k}, and what is its value there?",
        "Find the {k} of f(x) = {f}.",
        "At which x is f(x) = {f} at its {k}, and how large is it?",
    ]);
    let df = f.derivative();
    let steps = vec![
        format!("At a {kind} the derivative is 0: f'(x) = {df}."),
        format!("{df} = 0 gives x = {x}."),
        format!("There f({x}) = {} = {}.", f.with_number(x), f.at(x)),
        format!("The second derivative is {}, so it is a {kind}.", 2 * a),
    ];
    let question = question.replace("{f}", &f.to_string()).replace("{k}", kind);
    Worked::new(question, steps, format!("x = {x}, f(x) = {}", f.at(x)))
}

pub(super) fn limit(draw: &mut Draw) -> Worked {
    let (a, b) = (draw.nonzero(-40..=40), draw.nonzero(-40..=40));
    let numerator = Polynomial(vec![a * b, -(a + b), 1]);
    let denominator = Polynomial(vec![-a, 1]);
    let question = draw.pick(&[
        "Find the limit of ({n})/({d}) as x approaches {a}.",
        "What does ({n})/({d}) tend to when x goes to {a}?",
        "Compute the limit of ({n})/({d}) for x -> {a}.",
    ]);
    let other = Polynomial(vec![-b, 1]);
    let steps = vec![
        format!("At x = {a} top and bottom are both 0, so factor the top."),
        format!("{numerator} = ({denominator})({other})."),
        format!("Away from x = {a} the factor {denominator} cancels, and {other} is left."),
        format!("At x = {a} it is {} {} = {}.", operand(a), signed(-b), a - b),
    ];
    let question = question
        .replace("{n}", &numerator.to_string())
        .replace("{d}", &denominator.to_string())
        .replace("{a}", &a.to_string());
    Worked::new(question, steps, a - b)
}
