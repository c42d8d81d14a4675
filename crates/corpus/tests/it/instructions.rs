//! Questions with short answers: every answer is worked out again from the words of the question, and no problem that is
//! asked was ever trained on, however it is worded.

use std::collections::HashSet;

use llama_pro_corpus::{HELD_OUT, Instruction, held_out_instructions, training_instructions};

/// The numbers in a text, in order.
fn numbers(text: &str) -> Vec<i64> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty()).map(|w| w.parse().unwrap()).collect()
}

fn written(list: &[i64]) -> String {
    format!("[{}]", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// The answer, read off the question by its words alone; for functions and calls the code that the words spell.
fn solved(question: &str) -> String {
    let n = numbers(question);
    let words: Vec<&str> = question.trim_end_matches(['.', '?']).split(' ').collect();
    let has = |text: &str| question.contains(text);
    if question.starts_with("Write a line of Python") {
        return format!("{} = {}({})", words[words.len() - 1], words[7], n[0]);
    }
    if question.starts_with("Write a") {
        let name = words[4];
        let signs = [
            ("plus", "+"),
            ("minus", "-"),
            ("times", "*"),
            ("modulo", "%"),
            ("greater", ">"),
            ("less", "<"),
            ("equal", "=="),
        ];
        let sign = signs.iter().find(|(word, _)| words.contains(word)).unwrap().1;
        let code = format!("x {sign} {}", n[0]);
        return match (has("Python"), has("tells whether")) {
            (true, _) => format!("def {name}(x):\n    return {code}"),
            (false, true) => format!("fn {name}(x: i64) -> bool {{ {code} }}"),
            (false, false) => format!("fn {name}(x: i64) -> i64 {{ {code} }}"),
        };
    }
    let value = if has("len(") {
        n.len() as i64
    } else if has("max(") || has("larger") {
        *n.iter().max().unwrap()
    } else if has("smaller") {
        *n.iter().min().unwrap()
    } else if has("Reverse") {
        return written(&n.iter().rev().copied().collect::<Vec<_>>());
    } else if has("What does [") {
        n[n[n.len() - 1] as usize]
    } else if has("comes next") {
        2 * n[2] - n[1]
    } else if has("twice") {
        2 * n[0]
    } else if has("half") {
        n[0] / 2
    } else if has("plus") || has("Add") || has(" + ") {
        n[0] + n[1]
    } else if has("Subtract") {
        n[1] - n[0]
    } else if has("minus") || has(" - ") {
        n[0] - n[1]
    } else {
        n[0] * n[1]
    };
    value.to_string()
}

#[test]
fn every_answer_follows_from_its_question() {
    for i in 0..20_000 {
        let Instruction { question, answer, .. } = Instruction::at(3, i);
        assert_eq!(answer, solved(&question), "{question}");
    }
}

#[test]
fn what_is_asked_was_never_trained_on_in_any_wording() {
    // A key of the test's own making: words that name the task, and the numbers; sorted where order does not matter.
    let key = |question: &str| {
        let mut n = numbers(question);
        let is = |all: &[&str]| all.iter().any(|w| question.contains(w));
        let task = if question.contains('[') || question.starts_with("Write") {
            question
        } else if is(&["plus", "Add", " + "]) {
            n.sort_unstable();
            "sum"
        } else if is(&["minus", "Subtract", " - "]) {
            n.sort_unstable();
            "difference"
        } else if is(&["times", "Multiply", " * "]) {
            n.sort_unstable();
            "product"
        } else {
            if is(&["larger", "smaller"]) {
                n.sort_unstable();
            }
            question.split(|c: char| c.is_ascii_digit()).next().unwrap()
        };
        format!("{task} {n:?}")
    };
    let asked: HashSet<String> =
        (0..3).flat_map(|s| held_out_instructions(s, 300)).map(|i| key(&i.question)).collect();
    assert!(asked.len() > 500, "{}", asked.len());
    for seed in 0..3 {
        for trained in training_instructions(seed, 30_000) {
            assert!(!asked.contains(&key(&trained.question)), "{}", trained.question);
        }
    }
    let held_out = (0..20_000).filter(|&i| Instruction::at(0, i).is_held_out()).count();
    let expected = 20_000 / HELD_OUT as usize;
    assert!((expected * 4 / 5..expected * 6 / 5).contains(&held_out), "{held_out} of 20,000");
}
