//! Perplexity and comparison against models whose likelihoods are known, and against brute force.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use llama_pro_eval::{
    BoxError, EvalTable, HEADERS, IGNORED, LanguageModel, Perplexity, RowScore, TokenRow, Verdict, compare,
    perplexity,
};

/// Numbers that look random: a linear congruential generator, high bits.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn unit(&mut self) -> f64 {
        self.next() as f64 / f64::from(1_u32 << 31)
    }
}

/// Gives every token of a vocabulary the same likelihood.
struct Uniform(usize);

impl LanguageModel for Uniform {
    fn score(&mut self, rows: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        let one = -(self.0 as f64).ln();
        Ok(rows
            .iter()
            .map(|r| RowScore { log_likelihood: one * r.scored() as f64, targets: r.scored() })
            .collect())
    }
}

/// The next token depends on the one before, by a table of likelihoods. Counts its calls.
struct Bigram {
    table: Vec<Vec<f64>>,
    calls: Vec<usize>,
}

const VOCABULARY: usize = 11;

impl Bigram {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let table = (0..VOCABULARY)
            .map(|_| {
                let weights: Vec<f64> = (0..VOCABULARY).map(|_| 0.05 + numbers.unit()).collect();
                let sum: f64 = weights.iter().sum();
                weights.iter().map(|w| w / sum).collect()
            })
            .collect();
        Self { table, calls: Vec::new() }
    }
}

impl LanguageModel for Bigram {
    fn score(&mut self, rows: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        self.calls.push(rows.len());
        let one = |row: &TokenRow| {
            let scored = row.inputs.iter().zip(&row.targets).filter(|(_, t)| **t != IGNORED);
            let log_likelihood = scored.map(|(i, t)| self.table[*i as usize][*t as usize].ln()).sum();
            RowScore { log_likelihood, targets: row.scored() }
        };
        Ok(rows.iter().map(one).collect())
    }

    fn max_row(&self) -> Option<usize> {
        Some(40)
    }
}

/// Rows of different lengths, some targets ignored.
fn rows(count: usize) -> Vec<TokenRow> {
    let mut numbers = Numbers(5);
    (0..count)
        .map(|_| {
            let length = 3 + numbers.next() as usize % 30;
            let tokens: Vec<i64> =
                (0..length).map(|_| (numbers.next() as usize % VOCABULARY) as i64).collect();
            let mut row = TokenRow::document(&tokens);
            let ignored = numbers.next() as usize % row.targets.len();
            row.targets[ignored] = IGNORED;
            row
        })
        .collect()
}

#[test]
fn a_uniform_model_has_the_entropy_of_its_vocabulary() {
    for vocabulary in [2, 512, 32_000] {
        let p = perplexity(&mut Uniform(vocabulary), rows(50), 8).unwrap();
        let expected = (vocabulary as f64).ln();
        assert!((p.nats_per_token / expected - 1.0).abs() < 1e-14, "{}", p.nats_per_token);
        assert!((p.perplexity / vocabulary as f64 - 1.0).abs() < 1e-12);
        // All rows are alike per token: nothing to be uncertain about.
        assert!(p.stderr.unwrap() < 1e-14);
    }
}

#[test]
fn a_bigram_model_against_brute_force() {
    let (mut model, rows) = (Bigram::new(1), rows(40));
    let p = perplexity(&mut model, rows.clone(), 7).unwrap();
    // The product of all likelihoods, token by token, in one go.
    let (mut nats, mut tokens) = (0.0, 0);
    for row in &rows {
        for i in 0..row.inputs.len() {
            if row.targets[i] != IGNORED {
                nats -= model.table[row.inputs[i] as usize][row.targets[i] as usize].ln();
                tokens += 1;
            }
        }
    }
    assert_eq!(p.tokens, tokens);
    assert!((p.nats_per_token - nats / tokens as f64).abs() < 1e-12);
    assert_eq!(p.perplexity, p.nats_per_token.exp());
    assert_eq!(p.rows.len(), 40);
    assert_eq!(model.calls, [7, 7, 7, 7, 7, 5], "whole batches, then the rest");
}

#[test]
fn the_size_of_batches_does_not_matter() {
    let one = perplexity(&mut Bigram::new(2), rows(33), 1).unwrap();
    for batch in [2, 5, 32, 33, 1_000] {
        assert_eq!(perplexity(&mut Bigram::new(2), rows(33), batch).unwrap(), one, "batches of {batch}");
    }
}

/// The standard error against the spread of the estimate over many samples of rows from a known population.
#[test]
fn the_standard_error_is_the_spread_of_the_estimate() {
    let mut numbers = Numbers(77);
    let sample = |numbers: &mut Numbers| {
        let rows = (0..200)
            .map(|_| {
                let targets = 1 + numbers.next() as usize % 60;
                // Rows differ in how hard they are, and so do their tokens.
                let hard = 1.0 + 2.0 * numbers.unit();
                let nats: f64 = (0..targets).map(|_| hard * (0.5 + numbers.unit())).sum();
                RowScore { log_likelihood: -nats, targets }
            })
            .collect();
        Perplexity::from_rows(rows).unwrap()
    };
    let samples: Vec<_> = (0..400).map(|_| sample(&mut numbers)).collect();
    let count = samples.len() as f64;
    let mean = samples.iter().map(|p| p.nats_per_token).sum::<f64>() / count;
    let spread =
        (samples.iter().map(|p| (p.nats_per_token - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
    let stated = samples.iter().map(|p| p.stderr.unwrap()).sum::<f64>() / count;
    // 400 samples know their spread to 1 / sqrt(800), 3.5 %; three of those.
    assert!((stated / spread - 1.0).abs() < 0.11, "stated {stated}, seen {spread}");
}

fn table(name: &str, seed: u64, rows: Vec<TokenRow>) -> EvalTable {
    let mut table = EvalTable::new(name);
    table.push("code", perplexity(&mut Bigram::new(seed), rows, 4).unwrap());
    table
}

#[test]
fn a_paired_difference_against_brute_force() {
    let (before, after) = (table("a", 3, rows(25)), table("b", 4, rows(25)));
    let change = compare(&before, &after).unwrap().remove(0);
    let (b, a) = (&before.sets[0], &after.sets[0]);
    // Leave-one-out: the jackknife of the difference of the two ratios, another way to the same error.
    let sum = |rows: &[RowScore], leave: usize| {
        let kept = rows.iter().enumerate().filter(|(i, _)| *i != leave).map(|(_, r)| r);
        kept.fold((0.0, 0.0), |(s, n), r| (s - r.log_likelihood, n + r.targets as f64))
    };
    let without: Vec<f64> = (0..25)
        .map(|i| {
            let ((sb, n), (sa, _)) = (sum(&b.rows, i), sum(&a.rows, i));
            (sa - sb) / n
        })
        .collect();
    let mean = without.iter().sum::<f64>() / 25.0;
    let jackknife = (without.iter().map(|d| (d - mean).powi(2)).sum::<f64>() * 24.0 / 25.0).sqrt();
    assert!(change.paired);
    assert!(
        (change.stderr.unwrap() / jackknife - 1.0).abs() < 0.1,
        "{:?} against {jackknife}",
        change.stderr
    );
    // And by the letter of the formula.
    let n: f64 = b.rows.iter().map(|r| r.targets as f64).sum();
    let squares: f64 = b
        .rows
        .iter()
        .zip(&a.rows)
        .map(|(b, a)| (b.log_likelihood - a.log_likelihood - change.difference * b.targets as f64).powi(2))
        .sum();
    assert!((change.stderr.unwrap() - (25.0 / 24.0 * squares).sqrt() / n).abs() < 1e-12);
    assert!((change.percent() - (change.after / change.before - 1.0) * 100.0).abs() < 1e-9);
    assert_eq!(change.cells().len(), HEADERS.len());
    assert_eq!(change.cells()[0], "code");
}

/// Every row a little better: lost in the differences between rows, plain in pairs.
#[test]
fn pairs_see_what_single_scores_cannot() {
    let mut numbers = Numbers(9);
    let before: Vec<_> =
        (0..100).map(|_| RowScore { log_likelihood: -100.0 * (1.0 + numbers.unit()), targets: 50 }).collect();
    let shifted = |shift: f64, numbers: &mut Numbers| {
        let one = |r: &RowScore| RowScore {
            log_likelihood: r.log_likelihood + shift + 0.2 * (numbers.unit() - 0.5),
            targets: r.targets,
        };
        before.iter().map(one).collect::<Vec<_>>()
    };
    let table = |rows: Vec<RowScore>| {
        let mut table = EvalTable::new("m");
        table.push("prose", Perplexity::from_rows(rows).unwrap());
        table
    };
    let base = table(before.clone());
    let verdict = |t: &EvalTable| compare(&base, t).unwrap()[0].verdict;
    let better = table(shifted(0.5, &mut numbers));
    assert_eq!(verdict(&better), Verdict::Better);
    assert_eq!(verdict(&table(shifted(-0.5, &mut numbers))), Verdict::Worse);
    assert_eq!(verdict(&base), Verdict::Same);
    // Without the rows, the same change is within the errors of the two means.
    let mut blind = better.clone();
    blind.sets[0].rows.clear();
    let change = compare(&base, &blind).unwrap().remove(0);
    assert_eq!((change.paired, change.verdict), (false, Verdict::Same));
    blind.sets[0].stderr = None;
    assert_eq!(verdict(&blind), Verdict::Unknown);
    assert_eq!(verdict(&table(vec![RowScore { log_likelihood: -3.0, targets: 2 }])), Verdict::Unknown);
}

#[test]
fn tables_survive_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("before.json");
    let table = table("models/base", 6, rows(9));
    std::fs::write(&path, serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(EvalTable::read(&path).unwrap(), table, "every bit of every number");
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(value["sets"][0]["name"], "code");
    assert_eq!(value["sets"][0]["rows"].as_array().unwrap().len(), 9);
    // By hand, with the least that is needed.
    let least =
        r#"{"model": "m", "sets": [{"name": "a", "nats_per_token": 1, "perplexity": 2.7, "tokens": 3}]}"#;
    std::fs::write(&path, least).unwrap();
    assert_eq!(EvalTable::read(&path).unwrap().set("a").unwrap().rows, []);
    std::fs::write(&path, "{\"model\": 1}").unwrap();
    let message = EvalTable::read(&path).unwrap_err().to_string();
    assert!(message.contains("before.json: not a table of scores: ") && !message.contains('\n'), "{message}");

    let both = |b: &EvalTable, a: &EvalTable| compare(b, a).unwrap_err().to_string();
    let empty = EvalTable::new("none");
    assert_eq!(both(&table, &empty), "the set \"code\" is only in the table before");
    assert_eq!(both(&empty, &table), "the set \"code\" is only in the table after");
    let changes = compare(&table, &table).unwrap();
    let text = serde_json::to_string(&changes).unwrap();
    assert!(text.contains("\"verdict\":\"same\""), "{text}");
}

/// Answers with what it is given.
struct Fixed(Result<Vec<RowScore>, &'static str>);

impl LanguageModel for Fixed {
    fn score(&mut self, _: &[TokenRow]) -> Result<Vec<RowScore>, BoxError> {
        self.0.clone().map_err(Into::into)
    }
}

#[test]
fn wrong_rows_and_answers_are_named() {
    let row = || TokenRow::document(&[1, 2, 3]);
    let fail = |model: &mut dyn LanguageModel, rows: Vec<TokenRow>| {
        perplexity(model, rows, 2).unwrap_err().to_string()
    };
    let uniform = |rows| fail(&mut Uniform(4), rows);
    let mut short = row();
    short.segments.pop();
    assert_eq!(uniform(vec![row(), short]), "row 1: 2 inputs, but 2 targets, 1 segments and 2 positions");
    let mut negative = row();
    negative.targets[0] = -1;
    assert_eq!(uniform(vec![negative]), "row 0: expected targets of 0 or more, or -100, found -1");
    assert!(uniform(vec![]).contains("nothing to score: 0 rows"));
    assert!(uniform(vec![TokenRow::document(&[1])]).contains("nothing to score: 1 rows"));
    assert!(perplexity(&mut Uniform(4), [row()], 0).is_err());
    let long = TokenRow::document(&[1; 50]);
    assert_eq!(fail(&mut Bigram::new(1), vec![long]), "row 0: 49 tokens, but the model reads at most 40");

    let answer = |log_likelihood, targets| vec![RowScore { log_likelihood, targets }];
    let fixed = |answers| fail(&mut Fixed(answers), vec![row()]);
    assert_eq!(fixed(Err("out of memory")), "the model failed on rows 0 to 0: out of memory");
    for (answers, part) in [
        (vec![], "expected 1 rows, found 0"),
        (answer(-1.0, 3), "expected 2 scored targets, found 3"),
        (answer(f64::NAN, 2), "expected a finite log-likelihood of 0 or less, found NaN"),
        (answer(0.5, 2), "found 0.5"),
    ] {
        let message = fixed(Ok(answers));
        assert!(
            message.starts_with("the model's answer to row 0 is wrong: ") && message.contains(part),
            "{message}"
        );
    }
}

#[test]
fn rows_of_documents_and_continuations() {
    let row = TokenRow::continuation(&[1, 2, 3], &[4, 5]);
    assert_eq!(
        (row.inputs.as_slice(), row.targets.as_slice()),
        (&[1, 2, 3, 4][..], &[IGNORED, IGNORED, 4, 5][..])
    );
    assert_eq!(
        (row.positions.as_slice(), row.segments.as_slice(), row.scored()),
        (&[0, 1, 2, 3][..], &[0; 4][..], 2)
    );
    assert_eq!(TokenRow::continuation(&[], &[4, 5]), TokenRow::document(&[4, 5]));
    assert_eq!(TokenRow::continuation(&[1], &[]).scored(), 0);
    assert_eq!(TokenRow::document(&[]), TokenRow::default());
}
