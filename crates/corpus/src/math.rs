//! `kind = "math"`: worked problems from arithmetic to calculus, made by a seeded generator.
//!
//! Document i is a pure function of (seed, i): any part of the corpus can be made anywhere, in any order.
//! Every problem says what is asked, works it out in steps that are each true, and ends with the answer.
//! `tests/math.rs` reads the finished texts and solves them again by other methods.

mod algebra;
mod arithmetic;
mod calculus;
pub(crate) mod draw;
mod notation;
mod numbers;
mod words;

use serde::{Deserialize, Serialize};

use crate::document::{Document, Intake, Item, Items, Meta, Raw};
use crate::error::{Error, Result};
use crate::readers::Listing;
use draw::Draw;

/// The problems 0 to `documents` of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MathSource {
    /// Any number; another seed gives other problems.
    pub seed: u64,
    /// How many problems are made. A few come twice by chance and are dropped as duplicates.
    pub documents: u64,
}

impl MathSource {
    pub(crate) fn check(&self) -> Result<()> {
        if self.documents == 0 {
            return Err(Error::Setting {
                key: "documents",
                message: "expected at least 1, found 0".to_owned(),
            });
        }
        Ok(())
    }
}

pub(crate) fn read(source: &MathSource, inputs: &Listing) -> Raw {
    let intake = Intake::default();
    let (seed, counter) = (source.seed, intake.clone());
    let items = (0..source.documents).map(move |index| {
        counter.one();
        let id = format!("math-{seed}:{index}");
        Ok(Item::Document(Document { id, text: problem(seed, index), meta: Meta::default() }))
    });
    let items: Items = Box::new(items);
    Raw { items, intake, place: inputs.place.clone() }
}

/// A problem before it is written down.
struct Worked {
    question: String,
    steps: Vec<String>,
    answer: String,
}

impl Worked {
    fn new(question: impl Into<String>, steps: Vec<String>, answer: impl ToString) -> Self {
        Self { question: question.into(), steps, answer: answer.to_string() }
    }
}

type Topic = fn(&mut Draw) -> Worked;

/// Every topic, equally often.
const TOPICS: &[Topic] = &[
    arithmetic::addition,
    arithmetic::subtraction,
    arithmetic::multiplication,
    arithmetic::long_division,
    arithmetic::order_of_operations,
    arithmetic::decimals,
    arithmetic::fraction_sum,
    arithmetic::fraction_product,
    arithmetic::percentage,
    arithmetic::mean,
    numbers::greatest_common_divisor,
    numbers::least_common_multiple,
    numbers::prime_factors,
    numbers::power_remainder,
    numbers::arithmetic_series,
    numbers::geometric_term,
    algebra::linear,
    algebra::linear_both_sides,
    algebra::linear_brackets,
    algebra::system,
    algebra::quadratic,
    algebra::expansion,
    algebra::evaluation,
    calculus::derivative,
    calculus::slope,
    calculus::product_rule,
    calculus::second_derivative,
    calculus::definite_integral,
    calculus::extremum,
    calculus::limit,
    words::shopping,
    words::journey,
    words::sharing,
    words::rectangle,
    words::ages,
    words::discount,
    words::marbles,
    words::savings,
];

/// Problem number `index` of a seed: `Problem: …`, `Solution: …` on one or more lines, `Answer: …`.
pub fn problem(seed: u64, index: u64) -> String {
    let mut draw = Draw::new(seed, index);
    let topic = draw.pick(TOPICS);
    let Worked { question, steps, answer } = topic(&mut draw);
    format!("Problem: {question}\nSolution: {}\nAnswer: {answer}\n", steps.join("\n"))
}
