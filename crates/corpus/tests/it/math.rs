//! Every generated answer is found again, every step is checked, and the generator is a pure function.

use std::collections::{BTreeMap, HashSet};

use llama_pro_corpus::problem;

use super::evaluator::{number, runs};
use super::solvers::solve;
use super::support::{read, texts};

const SEED: u64 = 11;
const COUNT: u64 = 8000;

/// Question, solution, answer.
fn parts(text: &str) -> (&str, &str, &str) {
    let body = text.strip_prefix("Problem: ").unwrap().strip_suffix('\n').unwrap();
    let (question, rest) = body.split_once("\nSolution: ").unwrap();
    let (solution, answer) = rest.split_once("\nAnswer: ").unwrap();
    assert!(!question.contains('\n') && !answer.contains('\n'), "{text}");
    (question, solution, answer)
}

#[test]
fn every_answer_is_found_again_by_another_method() {
    let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
    for index in 0..COUNT {
        let text = problem(SEED, index);
        let (question, _, answer) = parts(&text);
        match solve(question, answer) {
            Ok(topic) => *topics.entry(topic).or_default() += 1,
            Err(why) => panic!("problem {index}: {why}\n{text}"),
        }
    }
    // Each solver is used, so each topic is drawn and none is taken for another.
    assert!(topics.len() >= 26 && topics.values().all(|n| *n > COUNT / 100), "{topics:?}");
}

#[test]
fn a_wrong_answer_would_be_noticed() {
    let mut noticed = 0;
    for index in 0..500 {
        let text = problem(SEED, index);
        let (question, _, answer) = parts(&text);
        // Change the last digit.
        let at = answer.rfind(|c: char| c.is_ascii_digit()).unwrap();
        let digit = (answer.as_bytes()[at] - b'0' + 1) % 10;
        let wrong = format!("{}{digit}{}", &answer[..at], &answer[at + 1..]);
        assert!(solve(question, &wrong).is_err(), "{question} {wrong}");
        noticed += 1;
    }
    assert_eq!(noticed, 500);
}

#[test]
fn every_step_is_true() {
    let mut checked = 0;
    for index in 0..COUNT {
        let text = problem(SEED, index);
        let (_, solution, _) = parts(&text);
        for run in solution.lines().flat_map(runs).filter(|run| run.contains('=')) {
            let values: Vec<_> = run.split('=').map(number).collect();
            for pair in values.windows(2) {
                if let [Some(left), Some(right)] = pair {
                    assert_eq!(left, right, "{run}\n{text}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 2 * COUNT, "{checked}");
}

#[test]
fn texts_have_a_readable_size_and_hardly_repeat() {
    let mut distinct = HashSet::new();
    let mut bytes = 0;
    for index in 0..COUNT {
        let text = problem(SEED, index);
        assert!((90..=700).contains(&text.len()), "{} bytes\n{text}", text.len());
        assert!(
            text.is_ascii() && !text.contains("  ") && !text.contains("{") && !text.contains("+ -"),
            "{text}"
        );
        bytes += text.len() as u64;
        distinct.insert(text);
    }
    assert!(distinct.len() as u64 * 100 >= COUNT * 99, "{}", distinct.len());
    assert!((150..400).contains(&(bytes / COUNT)), "{}", bytes / COUNT);
}

#[test]
fn a_document_is_a_function_of_seed_and_index() {
    let here = std::path::Path::new(".");
    let (all, counts) = read("kind = \"math\"\nseed = 3\ndocuments = 400\n", here).unwrap();
    assert_eq!(counts.seen, 400);
    let (fewer, _) = read("kind = \"math\"\nseed = 3\ndocuments = 100\n", here).unwrap();
    assert_eq!(texts(&all)[..fewer.len()], texts(&fewer));
    assert_eq!(all[0].text, problem(3, 0));
    assert_eq!(all[0].id, "math-3:0");
    assert_ne!(problem(3, 7), problem(4, 7));
    assert!(read("kind = \"math\"\nseed = 3\ndocuments = 0\n", here).is_err());
}
