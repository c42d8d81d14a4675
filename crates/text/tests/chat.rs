//! Chat templates and loss masks against transformers (fixtures/chat.json, made by tests/reference/chat_reference.py),
//! and masks against the method of re-tokenized prefixes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use llama_pro_text::chat::{
    BUILTIN_TEMPLATES, ChatError, ChatTemplate, ChatTokenizer, Conversation, Fault, Message, SampleMaker,
    Spans, SpecialTokens,
};
use proptest::prelude::*;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The embedded base's tokenizer: byte-level BPE of 1024 tokens, `<s>` and `</s>`.
fn tokenizer() -> ChatTokenizer {
    ChatTokenizer::from_dir(&root().join("data/base-tiny")).unwrap()
}

fn tokens() -> SpecialTokens {
    let tokenizer = tokenizer();
    SpecialTokens::from_dir(&root().join("data/base-tiny"), |t| tokenizer.id(t).is_some()).unwrap()
}

fn conversation(value: &Value) -> Conversation {
    let messages = value["messages"].as_array().unwrap();
    Conversation {
        messages: messages.iter().map(|m| Message::from_fields(m.as_object().unwrap().clone())).collect(),
        tools: value.get("tools").cloned(),
    }
}

fn talk(turns: &[(&str, &str)]) -> Conversation {
    Conversation {
        messages: turns.iter().map(|(role, text)| Message::new(role, *text)).collect(),
        tools: None,
    }
}

#[test]
fn every_template_renders_as_in_transformers() {
    let fixture = fixture();
    let now = fixture["now"].as_i64().unwrap();
    let tokenizer = tokenizer();
    let (mut texts, mut masks, mut errors) = (0, 0, 0);
    for case in fixture["cases"].as_array().unwrap() {
        let (name, talk) = (case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap());
        let prompt = case["prompt"].as_bool().unwrap();
        let place = format!("{name}, {talk}, prompt {prompt}");
        let source = fixture["templates"][name].as_str().unwrap();
        let template = ChatTemplate::new(name, source, tokens()).unwrap().at(now);
        let rendered = template.render(&conversation(&fixture["conversations"][talk]), prompt);
        if let Some(expected) = case.get("error") {
            let line = rendered.unwrap_err().to_string();
            assert!(line.ends_with(expected.as_str().unwrap()), "{place}: {line}");
            errors += 1;
            continue;
        }
        let rendered = rendered.unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(rendered.text, case["text"].as_str().unwrap(), "{place}");
        let encoded = tokenizer.encode(&rendered.text).unwrap();
        let ids: Vec<u64> = encoded.iter().map(|(id, _)| u64::from(*id)).collect();
        assert_eq!(Value::from(ids), case["ids"], "{place}");
        texts += 1;
        if let Some(mask) = case.get("mask") {
            // transformers marks every token that reaches into a block.
            let inside = |at: &std::ops::Range<usize>| {
                rendered.generated.iter().any(|g| at.start < g.end && at.end > g.start)
            };
            let ours: Vec<u8> = encoded.iter().map(|(_, at)| u8::from(inside(at))).collect();
            assert_eq!(Value::from(ours), *mask, "{place}");
            masks += 1;
        }
    }
    assert!(texts > 140 && masks > 30 && errors > 4, "{texts} {masks} {errors}");
}

/// Labels as open-instruct makes them: the length of the tokens of each prefix says where an answer begins and ends.
fn by_prefixes(maker: &SampleMaker, conversation: &Conversation) -> Vec<bool> {
    let template = maker.template();
    let count = |n: usize, prompt: bool| {
        let part = Conversation { messages: conversation.messages[..n].to_vec(), tools: None };
        let text = template.render(&part, prompt).unwrap().text;
        maker.tokenizer().encode(&text).unwrap().len()
    };
    let mut flags = vec![false; count(conversation.messages.len(), false)];
    for (i, message) in conversation.messages.iter().enumerate() {
        if message.role() == "assistant" {
            flags[count(i, true)..count(i + 1, false)].fill(true);
        }
    }
    flags
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Where each turn ends in a token of its own, the masks of both methods are the same.
    #[test]
    fn masks_are_those_of_retokenized_prefixes(
        turns in prop::collection::vec(("[ -~]{0,40}[a-z]", "[ -~\n]{0,60}[a-zé🤖]"), 1..4),
        system in prop::option::of("[a-z]{1,20}"),
    ) {
        let mut all = Vec::new();
        if let Some(system) = &system {
            all.push(("system", system.as_str()));
        }
        for (question, answer) in &turns {
            all.push(("user", question.as_str()));
            all.push(("assistant", answer.as_str()));
        }
        let conversation = talk(&all);
        let fixture = fixture();
        for name in ["chatml", "chatml-generation", "llama3", "tulu"] {
            let source = fixture["templates"][name].as_str().unwrap();
            let template = ChatTemplate::new(name, source, tokens()).unwrap().at(0);
            let maker = SampleMaker::new(template, tokenizer()).unwrap();
            let spans = match Spans::new(maker.template(), &conversation) {
                Ok(spans) => spans,
                Err(error) => panic!("{name}: {error}"),
            };
            let ours = maker.flag(&spans).unwrap();
            let mut theirs = by_prefixes(&maker, &conversation);
            if name == "chatml-generation" {
                // The line end after the mark of the end stands outside of its blocks.
                let text = &spans.text;
                for (flag, (_, at)) in theirs.iter_mut().zip(maker.tokenizer().encode(text).unwrap()) {
                    *flag &= !text[..at.start].ends_with("<|im_end|>");
                }
            }
            prop_assert_eq!(&ours.trained, &theirs, "{}: {:?}", name, spans.text);
        }
    }
}

#[test]
fn tulu_learns_answers_with_their_end_and_nothing_else() {
    let maker = SampleMaker::new(ChatTemplate::builtin("tulu", &tokens()).unwrap(), tokenizer()).unwrap();
    let spans = Spans::new(
        maker.template(),
        &talk(&[("system", " s "), ("user", "a"), ("assistant", " b "), ("user", "c"), ("assistant", "d")]),
    )
    .unwrap();
    assert_eq!(
        spans.text,
        "<s><|system|>\ns\n<|user|>\na\n<|assistant|>\nb</s>\n<|user|>\nc\n<|assistant|>\nd</s>"
    );
    let learned: Vec<&str> = spans.trained.iter().map(|at| &spans.text[at.clone()]).collect();
    // The line end after an inner </s> belongs to the answer, as in the code that trained LLaMA Pro-Instruct.
    assert_eq!(learned, ["b</s>\n", "d</s>"]);
    let sample = maker.flag(&spans).unwrap();
    let ids: Vec<u32> =
        sample.ids.iter().zip(&sample.trained).filter(|(_, t)| **t).map(|(id, _)| *id).collect();
    assert_eq!(maker.tokenizer().decode(&ids).unwrap(), "b</s>\nd</s>");
    assert_eq!(sample.ids.iter().filter(|&&id| id == 0).count(), 1, "one BOS");
    let prompt = maker.prompt(&talk(&[("user", "a")])).unwrap();
    assert_eq!(maker.tokenizer().decode(&prompt).unwrap(), "<s><|user|>\na\n<|assistant|>\n");
}

#[test]
fn built_in_formats_are_written_as_their_makers_do() {
    let tokens = SpecialTokens(
        [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    );
    let render = |name: &str, turns: &[(&str, &str)]| {
        ChatTemplate::builtin(name, &tokens).unwrap().render(&talk(turns), false).unwrap().text
    };
    let two = [("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "R"), ("assistant", "B")];
    assert_eq!(
        render("llama-2", &two),
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST] A </s><s>[INST] R [/INST] B </s>"
    );
    let header = |role: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n");
    let (s, u, a) = (header("system"), header("user"), header("assistant"));
    assert_eq!(
        render("llama-3", &two),
        format!("<s>{s}S<|eot_id|>{u}Q<|eot_id|>{a}A<|eot_id|>{u}R<|eot_id|>{a}B<|eot_id|>")
    );
    assert_eq!(
        render("chatml", &two[..3]),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    );
    assert_eq!(
        render("alpaca", &two[1..3]),
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the \
         request.\n\n### Instruction:\nQ\n\n### Response:A</s>"
    );
    let apart = Message::new("user", "Q\n\nI").with("instruction", "Q").with("input", "I");
    let apart = Conversation { messages: vec![apart, Message::new("assistant", "A")], tools: None };
    let alpaca = ChatTemplate::builtin("alpaca", &tokens).unwrap();
    assert_eq!(
        Spans::new(&alpaca, &apart).unwrap().text,
        "<s>Below is an instruction that describes a task, paired with an input that provides further context. Write a \
         response that appropriately completes the request.\n\n### Instruction:\nQ\n\n### Input:\nI\n\n\
         ### Response:A</s>"
    );
    assert_eq!(render("plain", &two[1..3]), "<s>Q A</s>");
    assert_eq!(render("plain", &[("user", "Q\n"), ("assistant", "A")]), "<s>Q\nA</s>");
    for name in BUILTIN_TEMPLATES {
        let spans = Spans::new(&ChatTemplate::builtin(name, &tokens).unwrap(), &talk(&two[1..])).unwrap();
        let learned: Vec<&str> = spans.trained.iter().map(|at| spans.text[at.clone()].trim()).collect();
        assert_eq!(learned.len(), 2, "{name}");
        assert!(learned[0].starts_with('A') && learned[1].starts_with('B'), "{name}: {learned:?}");
    }
}

fn fault_of(result: Result<impl std::fmt::Debug, ChatError>) -> (Option<Fault>, String) {
    let error = result.unwrap_err();
    assert!(!error.to_string().contains('\n'));
    (error.fault(), error.to_string())
}

#[test]
fn a_template_without_end_is_stopped() {
    let ask = talk(&[("user", "q"), ("assistant", "a")]);
    for source in [
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(90000) %}{{ 'a' * 90000 }}{% endfor %}",
        "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
        "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    ] {
        let begun = std::time::Instant::now();
        let (fault, line) = fault_of(ChatTemplate::new("t", source, tokens()).unwrap().render(&ask, false));
        assert_eq!(fault, Some(Fault::Template));
        assert!(line.contains("without end"), "{source}: {line}");
        assert!(begun.elapsed().as_secs() < 10, "{source}");
    }
    let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert_eq!(
        fault_of(ChatTemplate::new("t", deep, tokens()).unwrap().render(&ask, false)).0,
        Some(Fault::Template)
    );
}

#[test]
fn what_cannot_be_learned_from_is_an_error_with_its_kind() {
    let tulu = || ChatTemplate::builtin("tulu", &tokens()).unwrap();
    let maker = SampleMaker::new(tulu(), tokenizer()).unwrap();
    let fault = |turns: &[(&str, &str)]| fault_of(maker.sample(&talk(turns)));
    assert_eq!(fault(&[]).0, Some(Fault::Empty));
    assert_eq!(fault(&[("user", "a"), ("assistant", "  ")]).0, Some(Fault::Empty));
    let (kind, line) = fault(&[("user", "a"), ("user", "b"), ("assistant", "c")]);
    assert_eq!(kind, Some(Fault::Roles));
    assert_eq!(line, "message 2 is of `user` after user: expected assistant");
    assert_eq!(fault(&[("assistant", "a")]).0, Some(Fault::Roles));
    assert_eq!(fault(&[("user", "a")]).0, Some(Fault::Roles));
    let (kind, line) = fault(&[("user", "what is </s>?"), ("assistant", "b")]);
    assert_eq!(kind, Some(Fault::ControlToken));
    assert!(line.contains("message 1") && line.contains("`</s>`"), "{line}");

    let with = |source: &str| ChatTemplate::new("t", source, tokens()).unwrap();
    let spans = |source: &str, turns: &[(&str, &str)]| fault_of(Spans::new(&with(source), &talk(turns)));
    let chat = [("system", "be brief"), ("user", "hello"), ("assistant", "world")];
    let drops = "{% for m in messages if m.role != 'system' %}{{ m.content }}\n{% endfor %}";
    let (kind, line) = spans(drops, &chat);
    assert_eq!(kind, Some(Fault::Dropped));
    assert!(line.contains("drops message 1"), "{line}");
    let none = "{% for m in messages %}{{ m.content }}{% endfor %}{% generation %}{% endgeneration %}";
    assert_eq!(spans(none, &chat).0, Some(Fault::Mask));
    // Earlier turns look different once the conversation goes on, and nothing says what is generated.
    let rewrites = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let (kind, line) = spans(rewrites, &chat);
    assert_eq!(kind, Some(Fault::Mask));
    assert!(line.contains("{% generation %}"), "{line}");
    let (kind, line) = spans("{{ raise_exception('no\nroles') }}", &chat);
    assert_eq!(
        (kind, line.as_str()),
        (Some(Fault::Template), "chat template t: refuses the conversation: no roles")
    );
    let twice = with("{{ bos_token ~ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
    let twice = SampleMaker::new(twice, tokenizer()).unwrap();
    assert!(fault_of(twice.sample(&talk(&chat))).1.contains("two BOS"));

    let missing =
        SampleMaker::new(ChatTemplate::builtin("chatml", &tokens()).unwrap(), tokenizer()).err().unwrap();
    assert!(missing.to_string().contains("`<|im_start|>`"), "{missing}");
    let none = SpecialTokens::default();
    let missing = SampleMaker::new(ChatTemplate::builtin("tulu", &none).unwrap(), tokenizer()).err().unwrap();
    assert!(missing.to_string().contains("writes eos_token"), "{missing}");
    let missing =
        SampleMaker::new(ChatTemplate::builtin("llama-2", &none).unwrap(), tokenizer()).err().unwrap();
    assert!(missing.to_string().contains("writes bos_token"), "{missing}");
    assert!(
        ChatTemplate::new("t", "{% for %}", tokens()).unwrap_err().to_string().contains("does not parse")
    );
    assert!(ChatTemplate::builtin("tulip", &tokens()).unwrap_err().to_string().contains("tulu, alpaca"));
}

#[test]
fn weights_leave_answers_out() {
    let mut conversation = talk(&[("user", "a"), ("assistant", "bad"), ("user", "c"), ("assistant", "good")]);
    conversation.messages[1].trained = false;
    for name in ["tulu", "llama-2", "plain", "alpaca"] {
        let spans = Spans::new(&ChatTemplate::builtin(name, &tokens()).unwrap(), &conversation).unwrap();
        assert_eq!(spans.trained.len(), 1, "{name}");
        assert!(spans.text[spans.trained[0].clone()].contains("good"), "{name}");
    }
    conversation.messages[3].trained = false;
    let tulu = ChatTemplate::builtin("tulu", &tokens()).unwrap();
    assert_eq!(fault_of(Spans::new(&tulu, &conversation)).0, Some(Fault::Mask));
}
