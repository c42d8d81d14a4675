//! Questions with short answers, made by a seeded generator: arithmetic with small numbers, and small tasks of code.
//! They are what the miniature of instruction tuning learns and is asked.
//!
//! Question i is a function of (seed, i). Whether it is held out is a function of its problem alone, not of the wording or
//! of the order of two summands: no seed ever trains on a problem that another one asks.

mod arithmetic;
mod code;

use std::collections::HashSet;

use crate::math::draw::Draw;

/// A question and the one answer that counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// `arithmetic` or `code`.
    pub topic: &'static str,
    /// What is asked.
    pub question: String,
    /// What is right, to the letter.
    pub answer: String,
    /// The problem behind the wording: 3 + 4 is one, whoever asks for it in whatever words.
    pub problem: String,
}

/// What a task makes.
struct Made {
    problem: String,
    question: String,
    answer: String,
}

/// One of this many problems is held out.
pub const HELD_OUT: u64 = 20;

impl Instruction {
    /// Number `index` of a seed, held out or not.
    pub fn at(seed: u64, index: u64) -> Self {
        let mut draw = Draw::new(seed ^ 0x1157, index);
        let (topic, tasks): (_, &[Task]) =
            if draw.int(0..=1) == 0 { ("arithmetic", arithmetic::TASKS) } else { ("code", code::TASKS) };
        let Made { problem, question, answer } = draw.pick(tasks)(&mut draw);
        Self { topic, question, answer, problem }
    }

    /// Whether it may only be asked and never be trained on.
    pub fn is_held_out(&self) -> bool {
        let hash = blake3::hash(self.problem.as_bytes());
        let first = hash.as_bytes()[..8].iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        first.is_multiple_of(HELD_OUT)
    }
}

type Task = fn(&mut Draw) -> Made;

/// The first `n` questions of a seed that may be trained on. Questions of few choices come again.
pub fn training_instructions(seed: u64, n: usize) -> Vec<Instruction> {
    (0..).map(|i| Instruction::at(seed, i)).filter(|i| !i.is_held_out()).take(n).collect()
}

/// The first `n` different questions of a seed that are held out; fewer where a million draws hold no more.
pub fn held_out_instructions(seed: u64, n: usize) -> Vec<Instruction> {
    let mut seen = HashSet::new();
    let all = (0..1_000_000).map(|i| Instruction::at(seed, i)).filter(Instruction::is_held_out);
    all.filter(|i| seen.insert(i.question.clone())).take(n).collect()
}
