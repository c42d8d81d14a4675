//! The examples of README.md: each stands here as a function that is compiled and run, and README must show the same
//! lines.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

use std::path::Path;

use anyhow::Result;
use llama_pro_tests::root;

fn fixture() -> std::path::PathBuf {
    root().join("tests/fixtures/llama2")
}

fn checkpoint(dir: &Path) -> Result<()> {
    // example: checkpoint
    let checkpoint = llama_pro_checkpoint::Checkpoint::open(dir)?;
    for name in checkpoint.names() {
        let tensor = checkpoint.info(name)?;
        println!("{name} {:?} {:?}", tensor.dtype, tensor.shape);
    }
    // end
    Ok(())
}

fn expand(base: &Path, out: &Path) -> Result<()> {
    // example: expand
    use llama_pro_expand::{ExpandOptions, Placement, expand, verify};
    let placement = Placement::Blocks { blocks: 2, per_group: 1 };
    let report = expand(base, out, &placement, &ExpandOptions::default())?;
    assert!(verify(out, Some(base))?.is_ok());
    println!("new blocks {:?}, {} bytes", report.plan.new_blocks(), report.bytes);
    // end
    Ok(())
}

fn shards(prefix: &Path) -> Result<()> {
    // example: shards
    use llama_pro_shards::{PackedRows, Sampler, ShardWriter, TokenShard};
    let mut writer = ShardWriter::new(prefix, 32_000)?;
    writer.push(&[1, 15043, 3186, 2])?;
    writer.finish()?;
    let rows = PackedRows::new(TokenShard::open(prefix)?, 2)?;
    let sampler = Sampler::new(vec![("code".to_owned(), rows, 1.0)], 42)?;
    println!("{:?}", sampler.row(&sampler.at(1_000_000)).inputs);
    // end
    Ok(())
}

fn corpus() -> Result<()> {
    // example: corpus
    use llama_pro_corpus::{Environment, MathSource, SourceKind, documents};
    let source = SourceKind::Math(MathSource { seed: 7, documents: 3 });
    for document in documents(&source, &Environment::default())? {
        println!("{}\n", document?.text);
    }
    // end
    Ok(())
}

fn text() -> Result<()> {
    // example: text
    let texts = ["fn main() {}", "let x = 1;"].map(str::to_owned);
    let trained = llama_pro_text::train_byte_bpe(texts.into_iter(), 300)?;
    let tokenizer = llama_pro_text::Tokenizer::from_bytes("mine".as_ref(), &trained.tokenizer_json)?;
    let ids = tokenizer.encode("fn main() {}")?;
    println!("{ids:?} {:?}", tokenizer.decode(&ids)?);
    // end
    Ok(())
}

fn model(dir: &Path) -> Result<()> {
    // example: model
    use llama_pro_model::{Inputs, Llama, LoadOptions, Path};
    let checkpoint = llama_pro_checkpoint::Checkpoint::open(dir)?;
    let model = Llama::load(&checkpoint, &LoadOptions::default())?;
    let ids = tch::Tensor::from_slice(&[1i64, 5, 8]).view([1, 3]);
    println!("{:?}", model.logits(&Inputs::tokens(&ids), Path::Grown)?.size());
    // end
    Ok(())
}

fn eval(dir: &Path) -> Result<()> {
    let checkpoint = llama_pro_checkpoint::Checkpoint::open(dir)?;
    let model = llama_pro_model::Llama::load(&checkpoint, &llama_pro_model::LoadOptions::default())?;
    // example: eval
    use llama_pro_eval::{TokenRow, perplexity};
    let mut scorer = llama_pro_model::Scorer::new(&model, llama_pro_model::Path::Grown);
    let row = TokenRow::document(&[1, 5, 8, 13, 21]);
    let score = perplexity(&mut scorer, [row], 1)?;
    println!("{:.3} nats per token", score.nats_per_token);
    // end
    Ok(())
}

/// Compiled and not run: it starts its own program again, and here that is the test harness.
fn sandbox() -> Result<std::process::ExitCode> {
    // example: sandbox
    use llama_pro_sandbox::{Config, Judge, Limits, Program, Sandbox, Tests};
    if let Some(code) = llama_pro_sandbox::launcher(std::env::args_os()) {
        return Ok(code); // first in main: the program starts itself again, to isolate what it runs
    }
    let sandbox = Sandbox::open(&Config::default())?;
    let tests = Tests { source: "assert add(2, 3) == 5".to_owned(), ..Tests::default() };
    let code = "def add(a, b): return a + b".to_owned();
    let program = Program { code, judge: Judge::Tests(tests), limits: Limits::default() };
    println!("passed: {}", sandbox.run(&[program])?[0].passed());
    // end
    Ok(std::process::ExitCode::SUCCESS)
}

fn train(dir: &Path) -> Result<()> {
    let checkpoint = llama_pro_checkpoint::Checkpoint::open(dir)?;
    let options =
        llama_pro_model::LoadOptions { trained: llama_pro_model::Trained::All, ..Default::default() };
    let model = llama_pro_model::Llama::load(&checkpoint, &options)?;
    let toml = "steps = 1\nrows-per-step = 1\nlearning-rate = 1e-3";
    // example: train
    use llama_pro_train::{Keep, MicroBatch, TrainConfig, Trainer};
    let (config, _) = llama_pro_run::load_recipe::<TrainConfig>("mine.toml".as_ref(), toml, &[])?;
    let mut trainer = Trainer::new(model, None, &config, Keep::default())?;
    let ids = tch::Tensor::from_slice(&[1i64, 5, 8, 13]).view([1, 4]);
    let stats = trainer.step(&[MicroBatch::tokens(&ids)], 1, 1e-3)?;
    println!("loss {:.3}, gradient norm {:.3}", stats.loss(), stats.grad_norm);
    // end
    Ok(())
}

fn run() -> Result<()> {
    // example: run
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Recipe {
        learning_rate: f64,
    }
    let set = ["learning-rate=3e-4".to_owned()];
    let (recipe, _) =
        llama_pro_run::load_recipe::<Recipe>("mine.toml".as_ref(), "learning-rate = 1e-3", &set)?;
    println!("{}", recipe.learning_rate);
    // end
    Ok(())
}

#[test]
fn the_examples_run() {
    let out = tempfile::tempdir().unwrap();
    checkpoint(&fixture()).unwrap();
    expand(&fixture(), &out.path().join("grown")).unwrap();
    shards(&out.path().join("code")).unwrap();
    corpus().unwrap();
    text().unwrap();
    model(&fixture()).unwrap();
    eval(&fixture()).unwrap();
    train(&fixture()).unwrap();
    run().unwrap();
    let _: fn() -> Result<std::process::ExitCode> = sandbox;
}

#[test]
fn readme_shows_the_examples() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut shown = 0;
    let mut lines = include_str!("readme.rs").lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.trim().strip_prefix("// example: ") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|l| l.trim() != "// end").collect();
        let text: String =
            body.iter().map(|l| format!("{}\n", l.strip_prefix("    ").unwrap_or(l))).collect();
        assert!(readme.contains(&text), "README.md does not show the example `{name}` as it stands here");
        shown += 1;
    }
    assert_eq!(shown, 10);
}
