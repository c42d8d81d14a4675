//! Records of every format to conversations, from small ones written out here and from public samples where they are.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::path::PathBuf;

use llama_pro_text::chat::{Conversation, Fault, Format, Records, conversation_files};
use serde_json::{Value, json};

fn read(record: &Value) -> Conversation {
    let mut all = Format::detect(record).unwrap().conversations(record).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn said(conversation: &Conversation) -> Vec<(&str, &str)> {
    conversation.messages.iter().map(|m| (m.role(), m.content())).collect()
}

#[test]
fn each_format_is_found_by_its_fields() {
    let both = [("user", "q"), ("assistant", "a")];
    for (record, format) in [
        (json!({"instruction": "q", "input": "", "output": "a"}), Format::Alpaca),
        (
            json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
            Format::Sharegpt,
        ),
        (
            json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
            Format::Messages,
        ),
        (
            json!({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
            Format::Messages,
        ),
        (json!({"prompt": "q", "completion": "a"}), Format::PromptCompletion),
        (
            json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}),
            Format::PromptCompletion,
        ),
        (
            json!({"query": "q", "response": "a", "type": "GSM", "original_question": "q"}),
            Format::QueryResponse,
        ),
    ] {
        assert_eq!(Format::detect(&record).unwrap(), format);
        let conversation = read(&record);
        assert_eq!(said(&conversation), both, "{format:?}");
        conversation.check().unwrap();
    }
    let error = Format::detect(&json!({"text": "t", "label": 1})).unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Format));
    assert!(error.to_string().contains("text, label"), "{error}");
    assert!(Format::detect(&json!(["q", "a"])).is_err());
}

#[test]
fn alpaca_has_input_system_history_and_instances() {
    let full = read(
        &json!({"system": "s", "history": [["h", "i"]], "instruction": "q", "input": "x", "output": "a"}),
    );
    let expected =
        [("system", "s"), ("user", "h"), ("assistant", "i"), ("user", "q\n\nx"), ("assistant", "a")];
    assert_eq!(said(&full), expected);
    assert_eq!(full.messages[3].fields()["input"], "x");
    let seeds = json!({"instruction": "q", "instances": [{"input": "", "output": "a"}, {"input": "x", "output": "b"}]});
    let seeds = Format::Alpaca.conversations(&seeds).unwrap();
    assert_eq!(said(&seeds[1]), [("user", "q\n\nx"), ("assistant", "b")]);
    assert!(Format::Alpaca.conversations(&json!({"instruction": "q", "output": 3})).is_err());
}

#[test]
fn sharegpt_knows_every_speaker_and_tools() {
    let record = json!({
        "system": "s", "tools": "[{\"name\": \"f\"}]",
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "two", "weight": 1.0},
        ]
    });
    let conversation = read(&record);
    conversation.check().unwrap();
    assert_eq!(conversation.tools, Some(json!([{"name": "f"}])));
    let call = &conversation.messages[2].fields()["tool_calls"][0];
    assert_eq!(*call, json!({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}));
    assert_eq!(conversation.messages[3].role(), "tool");
    for (speaker, role) in [
        ("user", "user"),
        ("chatgpt", "assistant"),
        ("bing", "assistant"),
        ("bard", "assistant"),
        ("assistant", "assistant"),
        ("model", "assistant"),
        ("system", "system"),
        ("tool", "tool"),
        ("function_response", "tool"),
        ("tool_response", "tool"),
    ] {
        let record = json!({"conversations": [{"from": speaker, "value": "v"}]});
        assert_eq!(read(&record).messages[0].role(), role);
    }
    let orca = json!({"conversations": [
        {"from": "system", "value": "s", "weight": 0.0}, {"from": "human", "value": "q", "weight": 0.0},
        {"from": "gpt", "value": "a", "weight": 1.0}]});
    assert!(read(&orca).messages[2].trained);
    for turns in [
        json!([{"from": "alien", "value": "v"}]),
        json!([{"from": "human"}]),
        json!([{"from": "human", "value": ["v"]}]),
        json!([{"from": "function_call", "value": "no json"}]),
        json!([{"from": "human", "value": "v", "weight": 1}]),
        json!([{"from": "gpt", "value": "v", "weight": 0.5}]),
        json!(["v"]),
        json!("v"),
    ] {
        let error = Format::Sharegpt.conversations(&json!({"conversations": turns})).unwrap_err();
        assert_eq!(error.fault(), Some(Fault::Format), "{error}");
    }
}

#[test]
fn messages_have_parts_calls_and_weights() {
    let record = json!({"messages": [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "value": "r"}]},
        {"role": "assistant", "content": null, "weight": 0, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "a"}],
         "loss_weight": 1.0},
    ], "tools": [{"type": "function", "function": {"name": "f"}}]});
    let conversation = read(&record);
    conversation.check().unwrap();
    let expected = [("system", "s"), ("user", "qr"), ("assistant", ""), ("tool", "2"), ("assistant", "a")];
    assert_eq!(said(&conversation), expected);
    let trained: Vec<bool> = conversation.messages.iter().map(|m| m.trained).collect();
    assert_eq!(trained, [false, false, false, false, true]);
    assert_eq!(conversation.messages[2].fields()["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
    assert_eq!(conversation.messages[4].fields()["reasoning_content"], "hm");
    let image = json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]});
    let error = Format::Messages.conversations(&image).unwrap_err();
    assert!(error.to_string().contains("image_url"), "{error}");
}

#[test]
fn files_are_lists_or_lines_plain_or_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let lines = "{\"query\": \"q\", \"response\": \"a\"}\n\n{\"query\": \"r\", \"response\": \"b\"}\n";
    std::fs::write(path("a.jsonl"), lines).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(lines.as_bytes()).unwrap();
    std::fs::write(path("b.jsonl.gz"), gz.finish().unwrap()).unwrap();
    std::fs::write(path("c.jsonl.zst"), zstd::encode_all(lines.as_bytes(), 1).unwrap()).unwrap();
    std::fs::write(
        path("d.json"),
        "[{\"query\": \"q\", \"response\": \"a\"}, {\"query\": \"r\", \"response\": \"b\"}]",
    )
    .unwrap();
    std::fs::write(path("notes.txt"), "no records").unwrap();
    let files = conversation_files(dir.path()).unwrap();
    assert_eq!(files.len(), 4);
    for file in &files {
        let all: Vec<(usize, Value)> = Records::open(file).unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len(), 2);
        let second = if file.ends_with("d.json") { 2 } else { 3 };
        assert_eq!(all[1], (second, json!({"query": "r", "response": "b"})));
    }
    // A line that is no JSON is one lost record, named by its number; what comes after it can be read.
    std::fs::write(path("bad.jsonl"), "{}\n{\"query\": \n[1]\n").unwrap();
    let bad: Vec<_> = Records::open(&path("bad.jsonl")).unwrap().collect();
    assert_eq!(bad.len(), 3);
    let error = bad[1].as_ref().unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Format));
    let line = error.to_string();
    assert!(line.contains("bad.jsonl: record 2: not JSON"), "{line}");
    assert_eq!(bad[2].as_ref().unwrap(), &(3, json!([1])));
    // Bytes that are no text end the file: where the next record begins is not known.
    std::fs::write(path("bytes.jsonl"), b"{}\n\xff\xfe\n{}\n").unwrap();
    let bytes: Vec<_> = Records::open(&path("bytes.jsonl")).unwrap().collect();
    assert!(bytes.len() == 2 && bytes[1].as_ref().unwrap_err().fault().is_none());
    std::fs::write(path("cut.json"), "[{}").unwrap();
    assert!(Records::open(&path("cut.json")).is_err());
    assert!(Records::open(&path("notes.txt")).is_err());
    assert!(Records::open(&path("absent.json")).is_err());
}

/// Written by pyarrow: tests/reference/make_records.py.
#[test]
fn parquet_rows_are_records() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records.parquet");
    let rows: Vec<(usize, Value)> = Records::open(&fixture).unwrap().map(Result::unwrap).collect();
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    assert_eq!(
        rows,
        [
            (
                1,
                json!({
                    "id": "a", "conversations": [turn("human", "What is 1 + 1?"), turn("gpt", "2")], "weight": 0.5,
                    "year": 2023, "tags": ["math", "é"], "checked": true
                })
            ),
            (
                2,
                json!({"id": "b", "conversations": [], "weight": null, "year": -1, "tags": [], "checked": null})
            ),
            (
                3,
                json!({
                    "id": "c",
                    "conversations": [turn("system", "Be brief.\n"), turn("human", "Hi"), turn("gpt", "Hi 🦀")],
                    "weight": 1.25, "year": 0, "tags": [null, "x"], "checked": false
                })
            ),
        ]
    );
    assert_eq!(Format::detect(&rows[2].1).unwrap(), Format::Sharegpt);
    // Cut anywhere, it is one line and no panic.
    let whole = std::fs::read(&fixture).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.parquet");
    for length in (0..whole.len()).step_by(37) {
        std::fs::write(&cut, &whole[..length]).unwrap();
        let error = match Records::open(&cut) {
            Ok(mut records) => records.find_map(Result::err).unwrap(),
            Err(error) => error,
        };
        let line = error.to_string();
        assert!(line.contains("cut.parquet") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn public_samples_are_read_to_the_last_record() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/sft");
    if !dir.exists() {
        println!("skipped: ../shared/data/sft is not there");
        return;
    }
    // Counted in the files by other means: lines, or the length of the JSON list.
    for (name, format, records) in [
        ("alpaca_en_demo.json", Format::Alpaca, 999),
        ("alpaca_seed_tasks.jsonl", Format::Alpaca, 175),
        ("glaive_toolcall_en_demo.json", Format::Sharegpt, 300),
        ("sharegpt_dummy_conversation.json", Format::Sharegpt, 500),
        ("v1_sft_demo.jsonl", Format::Messages, 500),
        ("oasst_commitpackft.jsonl", Format::PromptCompletion, 1178),
    ] {
        let mut n = 0;
        for record in Records::open(&dir.join(name)).unwrap() {
            let (number, record) = record.unwrap();
            assert_eq!(Format::detect(&record).unwrap(), format, "{name} {number}");
            for conversation in format.conversations(&record).unwrap() {
                match conversation.check() {
                    Ok(()) => {}
                    // Some answers of the samples are indeed empty.
                    Err(error) => assert_eq!(error.fault(), Some(Fault::Empty), "{name} {number}: {error}"),
                }
            }
            n += 1;
        }
        assert_eq!(n, records, "{name}");
    }
}
