//! Readers and the recipe parser on input that nobody would write: an error of one line or a right account, never a
//! panic; and what compression, members and damage may change in what is read.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use llama_pro_corpus::filter::Filters;
use llama_pro_corpus::{CorpusRecipe, Error, documents};
use proptest::prelude::*;
use proptest::sample::Index;

use super::cases::cases;
use super::pipeline::{recipe, run_with};
use super::recipes::RECIPES;
use super::support::{environment, folder, source, write};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Lines of all kinds.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "\\{\"text\": ?\"[a-z\\\\u0-9\"{}]{0,20}\"\\}".prop_map(String::into_bytes),
        "\\{\"text\": \"[a-zé中 ]{0,12}\", \"a\": (1|null|\"x\"|\\[\"l\"\\]), \"b\": \\{\"c\": [0-9]\\}\\}"
            .prop_map(String::into_bytes),
        Just(b"{\"text\": \"fine\"}".to_vec()),
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join(&b'\n'))
}

/// A file of JSON lines: plain, or in members that end anywhere, whole or damaged.
#[derive(Debug)]
struct File {
    name: &'static str,
    bytes: Vec<u8>,
    /// What it holds.
    content: Vec<u8>,
    whole: bool,
}

fn file() -> impl Strategy<Value = File> {
    let damage = prop_oneof![
        3 => Just(None),
        1 => any::<Index>().prop_map(|at| Some((at, 0u8))),
        1 => (any::<Index>(), 1u8..).prop_map(Some),
    ];
    (lines(), 0usize..4, proptest::collection::vec(any::<Index>(), 0..4), damage).prop_map(
        |(content, kind, cuts, damage)| {
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
            ends.push(content.len());
            ends.sort_unstable();
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let members = || starts.clone().zip(&ends).map(|(start, &end)| &content[start..end]);
            let (name, mut bytes) = match kind {
                0 => ("in/a.jsonl", content.clone()),
                1 => ("in/a.jsonl.gz", content.clone()), // no gzip at all, as a rule
                2 => ("in/a.jsonl.gz", members().flat_map(gzip).collect()),
                _ => ("in/a.jsonl.zst", members().flat_map(|m| zstd::encode_all(m, 1).unwrap()).collect()),
            };
            let mut whole = kind != 1;
            if let Some((at, flip)) = damage.filter(|_| kind > 1 && !bytes.is_empty()) {
                let at = at.index(bytes.len());
                whole = false;
                match flip {
                    0 => bytes.truncate(at),
                    flip => bytes[at] ^= flip,
                }
            }
            File { name, bytes, content, whole }
        },
    )
}

/// Templates and fields, some of which are none.
fn keys() -> impl Strategy<Value = String> {
    let template = prop_oneof![
        3 => Just("{text}".to_owned()),
        1 => Just("{{{text}}} {b.c}".to_owned()),
        1 => Just("{a}".to_owned()),
        1 => "[a-c.{}é ]{0,9}",
    ];
    let field = prop_oneof![Just("a".to_owned()), Just("b.c".to_owned()), "[a-c.]{0,4}"];
    (template, field.clone(), field, 0usize..3).prop_map(|(template, first, second, fields)| {
        let text = |text: &str| serde_json::to_string(text).unwrap();
        let fields = match fields {
            0 => String::new(),
            1 => format!("fields = {{ path = {} }}\n", text(&first)),
            _ => format!("fields = {{ license = {}, stars = {} }}\n", text(&first), text(&second)),
        };
        format!(
            "kind = \"jsonl\"\npath = \"in\"\nmax-line-bytes = 60\ntemplate = {}\n{fields}",
            text(&template)
        )
    })
}

/// The texts up to the first error, and it.
fn read(toml: &str, dir: &Path) -> (Vec<String>, Option<Error>) {
    let (mut texts, mut error) = (Vec::new(), None);
    match documents(&source(toml), &environment(dir)) {
        Ok(stream) => stream.for_each(|document| match document {
            Ok(document) => texts.push(document.text),
            Err(found) => error = Some(found),
        }),
        Err(found) => error = Some(found),
    }
    (texts, error)
}

/// A recipe that has everything that a recipe can have, with every parameter.
static FULL: LazyLock<String> = LazyLock::new(|| {
    let filters = toml::Table::try_from(Filters::default()).unwrap();
    let filters: String = filters.keys().map(|rule| format!("{rule} = true\n")).collect();
    let text = format!(
        "out = \"o\"\ntokenizer = \"embedded\"\n[split]\nbos = true\n[dedup.near]\n[fim]\ntokens = [\"a\", \"b\", \"c\"]\n\
         [[decontaminate.benchmarks]]\nname = \"b\"\npath = \"b.csv\"\nfields = [\"q\", \"1\"]\nid = \"i\"\nkind = \"text\"\n\
         [training]\nsteps = 1\nrows-per-step = 2\nsequence-length = 3\n\
         [[sources]]\nname = \"s\"\nmax-tokens = 9\nline-dedup = true\n\
         source = {{ kind = \"files\", path = \"p\", extensions = [\"py\"], exclude = [\"x/\"] }}\n\
         [sources.filters]\n{filters}\n\
         [[sources]]\nname = \"t\"\nsource = {{ kind = \"parquet\", path = [\"p\"], fields = {{ stars = \"n\" }} }}\n\
         [[sources]]\nname = \"u\"\nsource = {{ kind = \"text\", path = \"p\", split = \"blank-lines\", starts-with = [\"a\"] }}\n"
    );
    let mut recipe: CorpusRecipe = toml::from_str(&text).unwrap();
    // What is off without a value of its own.
    let stack = "comments = [0.01, 0.8]\nchars-per-token = true\nmin-stars = 6\n";
    recipe.sources[0].filters.stack = toml::from_str(stack).unwrap();
    recipe.sources[0].filters.starcoder = toml::from_str("per-extension = \"t.csv\"").unwrap();
    toml::to_string(&recipe).unwrap()
});

#[test]
fn the_full_recipe_has_every_rule_with_its_parameters() {
    let recipe: CorpusRecipe = toml::from_str(&FULL).unwrap();
    recipe.check().unwrap();
    let filters = toml::Table::try_from(&recipe.sources[0].filters).unwrap();
    assert!(filters.len() >= 13 && filters.values().all(toml::Value::is_table), "{filters}");
    for key in
        ["max-mean-line-length", "per-extension", "min-alphabetic", "line-dedup", "spm-rate", "benchmarks"]
    {
        assert!(FULL.contains(key), "{key}");
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn no_bytes_break_the_jsonl_reader(file in file(), keys in keys()) {
        let dir = folder(&[(file.name, &file.bytes)]);
        let (texts, error) = read(&keys, dir.path());
        if let Some(error) = &error {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
        let plain = folder(&[("in/a.jsonl", &file.content)]);
        let (expected, fault) = read(&keys, plain.path());
        if file.whole {
            // How a file is compressed changes nothing but its name.
            prop_assert_eq!(&texts, &expected, "{:?}", keys);
            let message = |error: Option<Error>| {
                error.map(|e| e.to_string().rsplit("a.jsonl").next().unwrap_or_default().replacen(".gz", "", 1).replacen(".zst", "", 1))
            };
            prop_assert_eq!(message(error), message(fault));
        }
    }

    #[test]
    fn what_a_cut_file_gives_is_the_beginning_of_the_whole(
        content in lines(), zst in any::<bool>(), at in any::<Index>(), cuts in any::<Index>(),
    ) {
        let (head, tail) = content.split_at(cuts.index(content.len() + 1));
        let pack = |part: &[u8]| if zst { zstd::encode_all(part, 1).unwrap() } else { gzip(part) };
        let whole = [pack(head), pack(tail)].concat();
        let name = if zst { "in/a.jsonl.zst" } else { "in/a.jsonl.gz" };
        let toml = "kind = \"jsonl\"\npath = \"in\"\nmax-line-bytes = 60\n";
        let (all, fault) = read(toml, folder(&[(name, &whole)]).path());
        let (some, error) = read(toml, folder(&[(name, &whole[..at.index(whole.len())])]).path());
        // Where a member ends within a line, half of it is a line.
        let sure = some.len().saturating_sub(1);
        prop_assert_eq!(&some[..sure], &all[..sure.min(all.len())]);
        prop_assert!(some.len() <= all.len() + 1);
        if fault.is_none() && some.len() < all.len() {
            // Nothing is lost in silence, unless what is there is a whole file: nothing, or the first member.
            let here = at.index(whole.len());
            prop_assert!(error.is_some() || here == 0 || here == pack(head).len(), "{} of {}", here, whole.len());
        }
    }

    #[test]
    fn no_text_breaks_the_recipe_parser(
        which in 0usize..5, at in any::<Index>(), cut in 0usize..40, with in "[ -~\n]{0,12}",
    ) {
        let text = RECIPES.get(which).map_or(FULL.as_str(), |recipe| recipe.1);
        let from = (0..).map(|i| at.index(text.len()) + i).find(|&i| text.is_char_boundary(i)).unwrap();
        let to = (from + cut..).find(|&i| i >= text.len() || text.is_char_boundary(i)).unwrap().min(text.len());
        let broken = format!("{}{with}{}", &text[..from], &text[to..]);
        let loaded = llama_pro_run::load_recipe::<CorpusRecipe>(Path::new("r.toml"), &broken, &[]);
        match loaded {
            Ok((recipe, _)) => {
                if let Err(error) = recipe.check() {
                    prop_assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn with_skip_every_line_is_accounted_for(file in file()) {
        let dir = folder(&[(file.name, &file.bytes)]);
        write(dir.path(), "in/z.jsonl", b"{\"text\": \"the last\"}\n");
        let toml = "on-error = \"skip\"\n[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\n\
                    source = { kind = \"jsonl\", path = \"in\", max-line-bytes = 40 }\n";
        let recipe = recipe(toml);
        let report = run_with(&recipe, dir.path(), &AtomicBool::new(false), &|_| {}).unwrap().report;
        let (seen, kept, dropped, failed) = report.totals();
        prop_assert_eq!(seen, kept + dropped + failed);
        prop_assert!(kept >= 1);
    }
}
