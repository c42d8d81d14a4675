//! The recipes in configs/ are sound, and what cannot be is refused by key.

use super::*;

fn configs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let folders = std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir() && !p.ends_with("sft") && !p.ends_with("corpus"));
    let files = folders.flat_map(|f| std::fs::read_dir(f).unwrap().map(|e| e.unwrap().path()));
    files.filter(|p| p.extension().is_some_and(|x| x == "toml")).collect()
}

/// Every recipe in configs/ is read, checked, and says the same after a round through a run folder.
#[test]
fn the_shipped_recipes_are_sound() {
    let files = configs();
    assert!(files.len() >= 4, "{files:?}");
    for path in files {
        let recipe = load(Some(&path), &[]).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
        let table = toml::Table::try_from(&recipe).unwrap();
        let text = toml::to_string(&table).unwrap();
        let (again, _) = llama_pro_run::load_recipe::<Recipe>(&path, &text, &[]).unwrap();
        assert_eq!(toml::Table::try_from(&again).unwrap(), table, "{}", path.display());
        assert_eq!(again.identity(), recipe.identity());
    }
}

/// The base of the miniature was trained on the documents that the miniature does not hold out.
#[test]
fn the_miniature_holds_out_what_its_base_did() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let base = load(Some(&root.join("configs/base/tiny.toml")), &[]).unwrap();
    let kept = load(Some(&root.join("data/base-tiny/recipe.toml")), &[]).unwrap();
    let miniature = load(None, &[]).unwrap();
    let keep = miniature.keep.unwrap();
    for made in [&base, &kept] {
        assert_eq!(made.data.split_seed, miniature.data.split_seed);
        assert_eq!(made.data.validation, keep.validation.unwrap_or(miniature.data.validation));
        assert_eq!(made.data.sources[0].source, keep.source);
    }
}

#[test]
fn what_cannot_be_is_refused_by_key() {
    let refused = |set: &str| load(None, &[set.to_owned()]).unwrap_err().to_string();
    for (set, key) in [
        ("train.steps=0", "train.steps"),
        ("train.rows-per-step=1000000000000", "train.rows-per-step"),
        ("train.micro-rows=3", "train.micro-rows"),
        ("data.sources.code.weight=-1", "data.sources.code.weight"),
        ("eval.batch-rows=0", "eval.batch-rows"),
        ("eval.validation-rows=0", "eval.validation-rows"),
        ("keep.share=1.0", "keep.share"),
        ("expand.at=[1]", "[expand]"),
        ("data.sources.code.name=\"../x\"", "../x"),
        ("train.learnin-rate=1e-3", "learning-rate"),
    ] {
        assert!(refused(set).contains(key), "{set}: {}", refused(set));
    }
    let mut zero: Vec<String> = ["code", "math"].map(|n| format!("data.sources.{n}.weight=0")).into();
    zero.push("keep.replay=1".to_owned());
    assert!(load(None, &zero).unwrap_err().to_string().contains("every weight is 0"));
}
