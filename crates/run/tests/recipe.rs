//! Recipes: what loads, what overrides do, and the one line that every mistake gives.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llama_pro_run::{Error, load_recipe};
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Recipe {
    base: PathBuf,
    #[serde(default)]
    seed: u64,
    train: Train,
    #[serde(default)]
    data: Data,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Train {
    learning_rate: f64,
    #[serde(default)]
    steps: u64,
    #[serde(default)]
    control: Option<Control>,
    #[serde(default)]
    betas: Option<(f64, f64)>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Control {
    Full,
    Added,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Data {
    source: Vec<Source>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    name: String,
    weight: f64,
    #[serde(default)]
    read: Option<Reader>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
enum Reader {
    Text { path: String },
    Math { documents: u64, share: f64 },
}

const GOOD: &str = r#"# A recipe.
base = "models/base"

[train]
learning-rate = 2e-4
steps = 100

[[data.source]]
name = "code"
weight = 0.5
read = { kind = "text", path = "src" }

[[data.source]]
name = "math"
weight = 0.5
read = { kind = "math", documents = 10, share = 0.5 }
"#;

fn load(text: &str, set: &[&str]) -> Result<(Recipe, toml::Table), Error> {
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    load_recipe(Path::new("configs/x.toml"), text, &set)
}

fn ok(set: &[&str]) -> Recipe {
    load(GOOD, set).unwrap().0
}

/// The message for a recipe; it is always one line.
fn bad(text: &str, set: &[&str]) -> String {
    let message = load(text, set).unwrap_err().to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    message
}

fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    GOOD.replacen(from, to, 1)
}

#[test]
fn loads_and_resolves() {
    let (recipe, resolved) = load(GOOD, &[]).unwrap();
    assert_eq!((recipe.base.to_str(), recipe.train.learning_rate), (Some("models/base"), 2e-4));
    assert_eq!(recipe.data.source[1].read, Some(Reader::Math { documents: 10, share: 0.5 }));
    assert_eq!(resolved, GOOD.parse::<toml::Table>().unwrap());
    // The resolved table as a file gives the same recipe.
    let text = toml::to_string(&resolved).unwrap();
    assert_eq!(load(&text, &[]).unwrap(), (recipe, resolved));
}

#[test]
fn overrides() {
    assert_eq!(ok(&["train.learning-rate=1"]).train.learning_rate, 1.0);
    assert_eq!(ok(&[" train . steps = 0x10"]).train.steps, 16);
    assert_eq!(ok(&["train.steps=5", "train.steps=6"]).train.steps, 6, "the last one wins");
    assert_eq!(ok(&["train.control=full"]).train.control, Some(Control::Full), "a bare word is a string");
    assert_eq!(ok(&["base=a b=c"]).base, Path::new("a b=c"));
    assert_eq!(ok(&["base=\"12\""]).base, Path::new("12"));
    assert_eq!(ok(&["train.betas=[0.9, 0.95]"]).train.betas, Some((0.9, 0.95)));
    assert_eq!(ok(&["labels.'a.b'=x"]).labels["a.b"], "x");
    let recipe =
        ok(&["data.source.code.weight=0.3", "data.source.1.weight=0.7", "data.source.0.read.path=lib"]);
    assert_eq!((recipe.data.source[0].weight, recipe.data.source[1].weight), (0.3, 0.7));
    assert_eq!(recipe.data.source[0].read, Some(Reader::Text { path: "lib".to_owned() }));
    assert_eq!(ok(&["data.source=[]"]).data.source, []);

    let (_, resolved) = load(GOOD, &["train.steps=7", "labels.run=a"]).unwrap();
    assert_eq!(resolved["train"]["steps"].as_integer(), Some(7));
    assert_eq!(resolved["labels"]["run"].as_str(), Some("a"));
    assert_eq!(resolved["train"]["learning-rate"].as_float(), Some(2e-4));
}

#[test]
fn unknown_keys_name_place_and_nearest() {
    assert_eq!(
        bad(&with("learning-rate", "learnin-rate"), &[]),
        "configs/x.toml:5:1: unknown key `learnin-rate` in [train]: did you mean `learning-rate`?"
    );
    assert_eq!(
        bad(&with("base =", "seeds = 1\nbase ="), &[]),
        "configs/x.toml:2:1: unknown key `seeds` at the top level: did you mean `seed`?"
    );
    assert_eq!(
        bad(&with("[train]", "[trian]"), &[]),
        "configs/x.toml:4:2: unknown key `trian` at the top level: did you mean `train`?"
    );
    assert_eq!(
        bad(&with("steps", "momentum"), &[]),
        "configs/x.toml:6:1: unknown key `momentum` in [train]: known are `learning-rate`, `steps`, `control`, `betas`"
    );
    // An element of an array goes by its name; a tagged enum is read without positions, and still found.
    assert_eq!(
        bad(&with("weight = 0.5\nread = { kind = \"math\"", "wieght = 0.5\nread = { kind = \"math\""), &[]),
        "configs/x.toml:15:1: unknown key `wieght` in [data.source.math]: did you mean `weight`?"
    );
    assert_eq!(
        bad(&with("documents =", "document ="), &[]),
        "configs/x.toml:16:25: unknown key `document` in [data.source.math.read]: did you mean `documents`?"
    );
}

#[test]
fn unknown_keys_in_overrides() {
    assert_eq!(
        bad(GOOD, &["train.step=3"]),
        "--set train.step=3: unknown key `step` in [train]: did you mean `steps`?"
    );
    assert_eq!(
        bad(GOOD, &["seed=1", "trian.steps=3"]),
        "--set trian.steps=3: unknown key `trian` at the top level: did you mean `train`?"
    );
    assert_eq!(
        bad(GOOD, &["data.source.cod.weight=1"]),
        "--set data.source.cod.weight=1: `data.source` has no element with the name `cod`: did you mean `code`?"
    );
    assert_eq!(
        bad(GOOD, &["data.source.2.weight=1"]),
        "--set data.source.2.weight=1: `data.source` has 2 elements, counted from 0: there is no element 2"
    );
    assert_eq!(
        bad(GOOD, &["train.steps.x=1"]),
        "--set train.steps.x=1: `train.steps` is a value of type integer: it has no key `x`"
    );
    for (set, part) in [
        ("train.steps", "expected KEY=VALUE, found no `=`"),
        ("=1", "expected KEY=VALUE with a key like a.b"),
        ("train.=1", "expected KEY=VALUE with a key like a.b"),
        ("train..steps=1", "expected KEY=VALUE with a key like a.b"),
        ("labels.'a=1", "open quote"),
        ("labels.'a'b=1", "expected a dot between keys"),
        ("train.betas=[1,", "the value is not TOML"),
        ("extends=a", "unknown key `extends` at the top level"),
    ] {
        let message = bad(GOOD, &[set]);
        assert!(message.starts_with(&format!("--set {set}: ")) && message.contains(part), "{message}");
    }
}

#[test]
fn wrong_types_missing_keys_and_bad_toml() {
    assert_eq!(
        bad(&with("2e-4", "\"fast\""), &[]),
        "configs/x.toml:5:17: `train.learning-rate`: expected a number, found the string \"fast\""
    );
    assert_eq!(
        bad(&with("= 100", "= -1"), &[]),
        "configs/x.toml:6:9: `train.steps`: expected a whole number of 0 or more (u64), found the integer -1"
    );
    assert_eq!(
        bad(GOOD, &["train.steps=1e3"]),
        "--set train.steps=1e3: `train.steps`: expected a whole number of 0 or more (u64), found the number 1000.0"
    );
    assert_eq!(
        bad(GOOD, &["data.source=3"]),
        "--set data.source=3: `data.source`: expected an array, found the integer 3"
    );
    assert_eq!(bad(GOOD, &["train=3"]), "--set train=3: `train`: expected a table, found the integer 3");
    assert_eq!(
        bad(&with("share = 0.5", "share = true"), &[]),
        "configs/x.toml:16:49: `data.source.math.read.share`: expected a number, found true"
    );
    assert_eq!(
        bad(GOOD, &["train.control=ful"]),
        "--set train.control=ful: `train.control`: unknown value `ful`: did you mean `full`?"
    );
    assert_eq!(
        bad(&with("kind = \"text\"", "kind = \"txt\""), &[]),
        "configs/x.toml:11:17: `data.source.code.read.kind`: unknown value `txt`: did you mean `text`?"
    );
    assert_eq!(
        bad(&with("learning-rate = 2e-4", ""), &[]),
        "configs/x.toml:4:1: missing key `learning-rate` in [train]"
    );
    assert_eq!(
        bad(&with("base = \"models/base\"", ""), &[]),
        "configs/x.toml:1:1: missing key `base` at the top level"
    );
    let message = bad(&with("steps = 100", "steps = = 3"), &[]);
    assert!(message.starts_with("configs/x.toml:6:9: not TOML: "), "{message}");
    let message = bad(&with("steps = 100", "learning-rate = 3"), &[]);
    assert!(message.starts_with("configs/x.toml:6:1: not TOML: duplicate key"), "{message}");
    // Columns count characters.
    let message = bad("base = \"é\" x", &[]);
    assert!(message.starts_with("configs/x.toml:1:12: "), "{message}");
}

#[test]
fn extends() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let read = |path: &Path, set: &[&str]| {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        load_recipe::<Recipe>(path, &std::fs::read_to_string(path).unwrap(), &set)
    };
    write("base/good.toml", GOOD);
    let child = write("child.toml", "extends = \"base/middle.toml\"\n[train]\nsteps = 5\n");
    write(
        "base/middle.toml",
        "extends = \"good.toml\"\nseed = 9\ndata = {source = []}\n[train]\nsteps = 4\n",
    );
    let (recipe, resolved) = read(&child, &["train.control=added"]).unwrap();
    assert_eq!((recipe.seed, recipe.train.steps, recipe.train.learning_rate), (9, 5, 2e-4));
    assert_eq!((recipe.train.control, recipe.data.source.len()), (Some(Control::Added), 0));
    assert!(!resolved.contains_key("extends"));

    // Errors point into the file of the chain that is at fault.
    write("base/good.toml", &with("learning-rate", "learnin-rate"));
    let message = read(&child, &[]).unwrap_err().to_string();
    let place = format!("{}:5:1: unknown key `learnin-rate`", dir.path().join("base/good.toml").display());
    assert!(message.starts_with(&place), "{message}");
    write("base/good.toml", GOOD);
    let child = write("child.toml", "extends = \"base/middle.toml\"\n[train]\nsteps = \"x\"\n");
    let message = read(&child, &[]).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}:3:9: `train.steps`", child.display())), "{message}");

    write("base/good.toml", "extends = \"../child.toml\"\n");
    let message = read(&child, &[]).unwrap_err().to_string();
    assert!(message.contains("good.toml:1:11: `extends` goes round in a circle: "), "{message}");
    let child = write("child.toml", "extends = 3\n");
    let message = read(&child, &[]).unwrap_err().to_string();
    assert!(
        message.ends_with(
            "child.toml:1:11: `extends`: expected the path of a recipe, found a value of type integer"
        ),
        "{message}"
    );
    let child = write("child.toml", "extends = \"no.toml\"\n");
    let message = read(&child, &[]).unwrap_err().to_string();
    assert!(
        message.contains("child.toml:1:11: `extends`: cannot read ") && message.contains("no.toml"),
        "{message}"
    );
}

/// Any text and any override give a recipe or one line, never a panic.
#[test]
fn mangled_recipes_never_panic() {
    for at in 0..GOOD.len() {
        for new in ["", "=", "\"", "[", "é", "\u{0}", "9", "."] {
            let text = format!("{}{new}{}", &GOOD[..at], &GOOD[at + 1..]);
            if let Err(e) = load(&text, &[]) {
                let message = e.to_string();
                assert!(message.starts_with("configs/x.toml") && !message.contains('\n'), "{message}");
            }
            let set = format!("{}{new}{}", &"train.steps=12"[..at % 14], &"train.steps=12"[at % 14 + 1..]);
            let _ = load(GOOD, &[&set]);
        }
    }
}
