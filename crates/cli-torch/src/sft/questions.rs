//! Held-out questions, asked as a user would and answered greedily.

use anyhow::{Result, anyhow};
use llama_pro_corpus::{Instruction, held_out_instructions};
use llama_pro_eval::{GenerateRequest, LanguageModel};
use llama_pro_model::{Llama, Path, Scorer};
use llama_pro_text::chat::{Conversation, Message, SampleMaker};
use serde::{Deserialize, Serialize};

use super::recipe::Eval;

/// What a model answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answers {
    /// In the order they were asked.
    pub(super) answers: Vec<Answer>,
}

/// One question and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) topic: String,
    pub(super) question: String,
    pub(super) expected: String,
    pub(super) answer: String,
    pub(super) right: bool,
}

impl Answers {
    /// Right ones and all of a topic; of every topic with `None`.
    pub(super) fn score(&self, topic: Option<&str>) -> (usize, usize) {
        let of = || self.answers.iter().filter(|a| topic.is_none_or(|t| a.topic == t));
        (of().filter(|a| a.right).count(), of().count())
    }
}

/// Asks every held-out question of the recipe. An answer is right when it is the expected one to the letter, white space
/// at both ends aside.
pub(super) fn ask(model: &Llama, maker: &SampleMaker, eval: &Eval) -> Result<Answers> {
    let questions = held_out_instructions(eval.seed, eval.questions);
    let requests: Vec<GenerateRequest> = questions
        .iter()
        .map(|Instruction { question, .. }| {
            let ask = Conversation { messages: vec![Message::new("user", question)], tools: None };
            let prompt = maker.prompt(&ask)?.into_iter().map(i64::from).collect();
            Ok(GenerateRequest { prompt, max_new_tokens: eval.max_new_tokens })
        })
        .collect::<Result<_>>()?;
    let end = end_of_turn(maker);
    let ends = |token: &i64| end.contains(token);
    let mut scorer = Scorer::new(model, Path::Grown);
    let given = scorer
        .generate(&requests, &mut |_, tokens| tokens.last().is_some_and(ends))
        .map_err(|error| anyhow!("asking held-out questions: {error}"))?;
    let mut answers = Vec::with_capacity(questions.len());
    for (instruction, tokens) in questions.into_iter().zip(given) {
        let until = tokens.iter().position(ends).unwrap_or(tokens.len());
        let ids: Vec<u32> = tokens[..until].iter().map(|&id| id as u32).collect();
        let answer = maker.tokenizer().decode(&ids)?.trim().to_owned();
        answers.push(Answer {
            topic: instruction.topic.to_owned(),
            right: answer == instruction.answer,
            question: instruction.question,
            expected: instruction.answer,
            answer,
        });
    }
    Ok(Answers { answers })
}

/// Tokens that end an answer: the end of sequence and the ends of turn of the usual formats.
fn end_of_turn(maker: &SampleMaker) -> Vec<i64> {
    let eos = maker.template().tokens().get("eos_token");
    let names = eos.into_iter().chain(["<|im_end|>", "<|eot_id|>"]);
    names
        .filter(|name| maker.tokenizer().is_control(name))
        .filter_map(|name| maker.tokenizer().id(name))
        .map(i64::from)
        .collect()
}
