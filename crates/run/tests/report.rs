//! The report page: well-formed, self-contained, escaped, and showing what it was given.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::path::Path;

use llama_pro_run::report::{RunData, html};
use llama_pro_run::{MetricsWriter, Provenance, RunFolder};
use serde_json::json;

/// Every tag closed in order, attributes in quotes, no stray `<` or `&`. Returns the text between the tags.
fn check(page: &str) -> String {
    let void = ["meta", "!DOCTYPE"];
    let (mut open, mut text, mut ids): (Vec<&str>, _, Vec<&str>) = (Vec::new(), String::new(), Vec::new());
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closes what was opened last");
            continue;
        }
        assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "{tag}");
        let name = tag.split_whitespace().next().unwrap();
        if let Some(id) = tag.split(" id=\"").nth(1) {
            ids.push(id.split('"').next().unwrap());
        }
        assert!(!tag.contains(" src=") && !tag.contains(" href=") && name != "script", "{tag}");
        if name == "style" {
            let end = rest.find("</style>").unwrap();
            assert!(!rest[..end].contains("url(") && !rest[..end].contains("@import"));
            rest = &rest[end..];
        }
        if !void.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "ids are unique");
    for piece in text.split('&').skip(1) {
        let name = piece.split(';').next().unwrap();
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "stray & before {name:.20}");
    }
    text
}

fn run(dir: &Path, name: &str, slope: f64) -> RunFolder {
    let recipe = "base = \"a <b> & c\"\n[train]\nsteps = 400\n".parse().unwrap();
    let folder = RunFolder::create(&dir.join(name), &recipe).unwrap();
    let mut metrics = MetricsWriter::create(&folder.metrics()).unwrap();
    for step in 0..=400_u32 {
        let t = f64::from(step);
        if step.is_multiple_of(50) {
            let validation = json!({"prose": 2.9 + slope * t / 400.0, "code": 3.4 - 0.9 * t / (t + 80.0)});
            metrics.write(&json!({"step": step, "validation": validation})).unwrap();
        }
        if step > 0 {
            let noise = f64::from((step * 7919) % 101) / 101.0 - 0.5;
            let loss = if step == 77 { f64::NAN } else { 3.4 - t / (t + 80.0) + 0.2 * noise };
            let rate = 2e-4 * (1.0 - t / 440.0) * (t / 20.0).min(1.0);
            metrics
                .write(&json!({
                    "step": step, "loss": loss, "grad_norm": 1.0 + noise.abs(), "learning_rate": rate,
                    "tokens": step * 8192, "tokens_per_second": 9_000.0 + 500.0 * noise, "seconds": 0.9 * t,
                }))
                .unwrap();
        }
    }
    let mut provenance =
        Provenance::new("llama-pro 0.1.0", vec!["llama-pro".into(), "pretrain".into(), "--set".into()], None);
    provenance.input("base", "blake3:00");
    folder.write_provenance(&provenance).unwrap();
    let memory = json!({"optimizer": 1_234_567, "gradients": 617_283});
    folder.write_summary(&json!({"new_blocks": [2, 5], "trained parameters": 1_500_000, "memory": memory, "device": "cpu"})).unwrap();
    let set =
        |name: &str, p: f64| json!({"name": name, "nats_per_token": p.ln(), "perplexity": p, "tokens": 9000});
    folder.write_eval("before", &json!({"sets": [set("prose", 18.2), set("code", 30.0)]})).unwrap();
    folder
        .write_eval("after", &json!({"sets": [set("prose", 18.2 * slope.exp()), set("code", 12.4)]}))
        .unwrap();
    let verdicts = json!([{"name": "code", "verdict": "better"}, {"name": "prose", "verdict": if slope > 0.1 {"worse"} else {"same"}}]);
    folder.write_eval("changes", &verdicts).unwrap();
    folder
}

#[test]
fn two_runs_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let grown = run(dir.path(), "grown", 0.01);
    let control = run(dir.path(), "control <full> & \"more\"", 0.4);
    let runs = [RunData::read(grown.dir()).unwrap(), RunData::read(control.dir()).unwrap()];
    let page = html(&runs);
    let text = check(&page);
    for part in [
        "2 runs side by side",
        "What was learned, what was kept",
        "Perplexity before and after",
        "+1.0 %, no difference seen",
        "-58.7 %, better",
        "+49.2 %, worse",
        "Training loss",
        "Validation: prose",
        "Validation: code",
        "Learning rate",
        "3\u{202f}276\u{202f}800",
        "6 min 00 s",
        "1\u{202f}234\u{202f}567",
        "Memory: optimizer",
        "2, 5",
        "blake3:00",
        "control &lt;full&gt; &amp; &quot;more&quot;",
        "a &lt;b&gt; &amp; c",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!page.contains("<full>") && !page.contains("<b>"));
    assert_eq!(page.matches("<figure>").count(), 6);
    assert!(!page.contains("NaN") && !page.contains("inf"));
    assert_eq!(page, html(&runs), "the same runs give the same bytes");
    std::fs::write(grown.report(), &page).unwrap();
}

#[test]
fn what_is_missing_is_left_out() {
    check(&html(&[]));
    let bare = RunData { name: "</title><script>alert(1)</script>".to_owned(), ..RunData::default() };
    let page = html(std::slice::from_ref(&bare));
    check(&page);
    assert!(!page.contains("<script") && !page.contains("<figure") && !page.contains("Perplexity"));

    let line = |v: serde_json::Value| v.as_object().unwrap().clone();
    let odd = RunData {
        metrics: vec![
            line(json!({"loss": 1.0})),
            line(json!({"step": 1, "loss": null, "text": "x", "deep": {"a": {"b": 1}}})),
            line(json!({"step": 2, "loss": 2.0, "validation": {"<i>": 1.0, "s": "x"}})),
            line(json!({"step": 1, "loss": 1e300})),
        ],
        before: Some(json!({"sets": [{"name": "a"}, {"perplexity": 3}, 4]})),
        after: Some(json!([1])),
        changes: Some(json!("x")),
        ..bare.clone()
    };
    check(&html(&[odd, bare]));
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path(), "a", 0.0);
    let fails = |message: &str| {
        let error = RunData::read(folder.dir()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
    };
    std::fs::write(folder.summary(), "[]").unwrap();
    fails("summary.json: expected a JSON object");
    std::fs::write(folder.summary(), "{\"a\":\n").unwrap();
    fails("summary.json:2: ");
    std::fs::remove_file(folder.summary()).unwrap();
    std::fs::write(folder.eval().join("after.json"), "x").unwrap();
    fails("after.json:1: ");
    std::fs::write(folder.recipe(), "= 3").unwrap();
    fails("recipe.toml:1:1: not TOML");
}
