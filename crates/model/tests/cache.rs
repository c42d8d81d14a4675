//! The cache against the forward pass without one: scores of continuations and greedy text, on every fixture.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::{Expected, fixture};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_eval::{ChoiceRequest, ChoiceScore, GenerateRequest, LanguageModel, TokenRow};
use llama_pro_model::{Inputs, Llama, LoadOptions, Path, Scorer};
use tch::{Kind, Tensor};

const FIXTURES: [&str; 13] = [
    "llama2",
    "llama3-gqa-tied-bf16-sharded",
    "mistral-window",
    "qwen2",
    "qwen2-sliding",
    "llama-biases",
    "llama-head-dim",
    "llama-rope-linear",
    "llama-rope-dynamic",
    "llama-rope-yarn",
    "llama-rope-yarn-mscale",
    "llama-rope-llama3",
    "llama-f16",
];

fn load(name: &str, added: Vec<usize>) -> Llama {
    let options = LoadOptions { kind: Some(Kind::Float), added, ..LoadOptions::default() };
    Llama::load(&Checkpoint::open(&fixture(name)).unwrap(), &options).unwrap()
}

fn rows(name: &str) -> Vec<Vec<i64>> {
    let ids = Expected::read(&fixture(name).join("expected.safetensors")).get("input_ids");
    (0..ids.size()[0]).map(|i| Vec::<i64>::try_from(ids.get(i)).unwrap()).collect()
}

/// The score of one continuation by the forward pass that has no cache, in float64 sums.
fn plain(model: &Llama, path: Path, context: &[i64], continuation: &[i64]) -> ChoiceScore {
    let row = TokenRow::continuation(context, continuation);
    let log_likelihood = Scorer::new(model, path).score(&[row]).unwrap()[0].log_likelihood;
    let all = [context, continuation].concat();
    let ids = Tensor::from_slice(&all[..all.len() - 1]).unsqueeze(0);
    let likeliest = model.logits(&Inputs::tokens(&ids), path).unwrap().argmax(-1, false).get(0);
    let likeliest = Vec::<i64>::try_from(likeliest).unwrap();
    ChoiceScore { log_likelihood, is_greedy: likeliest[context.len() - 1..] == *continuation }
}

/// Requests that share much, little and nothing, with continuations of one token, of many, equal, and one the beginning
/// of another.
fn requests(model: &Llama, rows: &[Vec<i64>]) -> Vec<ChoiceRequest> {
    let first = &rows[0];
    let likeliest = |context: &[i64], n: usize| {
        let request = GenerateRequest { prompt: context.to_vec(), max_new_tokens: n };
        Scorer::new(model, Path::Grown).generate(&[request], &mut |_, _| false).unwrap().remove(0)
    };
    let mut requests = vec![
        ChoiceRequest {
            context: first[..20].to_vec(),
            continuations: vec![
                first[20..21].to_vec(),
                first[20..40].to_vec(),
                first[20..30].to_vec(),
                first[20..30].to_vec(),
                vec![7, 7, 7],
                likeliest(&first[..20], 5),
                vec![first[20], 9, 9],
            ],
        },
        ChoiceRequest {
            context: first[..33].to_vec(),
            continuations: vec![first[33..].to_vec(), rows[1][..9].to_vec()],
        },
        ChoiceRequest {
            context: first[..1].to_vec(),
            continuations: vec![first[1..].to_vec(), rows[1].clone()],
        },
        ChoiceRequest { context: rows[1][..25].to_vec(), continuations: vec![vec![5], vec![6], vec![8, 9]] },
        ChoiceRequest { context: rows[1].clone(), continuations: Vec::new() },
    ];
    requests.push(ChoiceRequest {
        context: [&first[..20], &rows[1][..3]].concat(),
        continuations: vec![vec![11, 12], vec![11, 13]],
    });
    requests
}

fn difference(got: &[Vec<ChoiceScore>], expected: &[Vec<ChoiceScore>]) -> f64 {
    assert_eq!(
        got.iter().map(Vec::len).collect::<Vec<_>>(),
        expected.iter().map(Vec::len).collect::<Vec<_>>()
    );
    let pairs = got.iter().flatten().zip(expected.iter().flatten());
    pairs
        .map(|(a, b)| {
            assert_eq!(a.is_greedy, b.is_greedy, "{a:?} {b:?}");
            (a.log_likelihood - b.log_likelihood).abs()
        })
        .fold(0.0, f64::max)
}

#[test]
fn continuations_score_as_without_a_cache() {
    for name in FIXTURES {
        let model = load(name, vec![]);
        let requests = requests(&model, &rows(name));
        let expected: Vec<Vec<ChoiceScore>> = requests
            .iter()
            .map(|r| r.continuations.iter().map(|c| plain(&model, Path::Grown, &r.context, c)).collect())
            .collect();
        assert!(expected[0][5].is_greedy && !expected[0][4].is_greedy, "both answers occur");
        let got = Scorer::new(&model, Path::Grown).choices(&requests).unwrap();
        let worst = difference(&got, &expected);
        println!("{name}: largest difference of a sum {worst:.1e}");
        // Sums of up to 47 logarithms, each within 2e-6.
        assert!(worst <= 5e-5, "{name}: {worst:e}");
    }
}

/// Whatever else is in the call, and in whatever order.
#[test]
fn scores_do_not_depend_on_the_batch() {
    for name in ["llama2", "mistral-window", "qwen2-sliding"] {
        let model = load(name, vec![]);
        let mut scorer = Scorer::new(&model, Path::Grown);
        let requests = requests(&model, &rows(name));
        let together = scorer.choices(&requests).unwrap();
        let alone: Vec<_> =
            requests.iter().map(|r| scorer.choices(std::slice::from_ref(r)).unwrap().remove(0)).collect();
        let worst = difference(&together, &alone);
        let backwards: Vec<ChoiceRequest> = requests.iter().rev().cloned().collect();
        let mut turned = scorer.choices(&backwards).unwrap();
        turned.reverse();
        let worst = worst.max(difference(&together, &turned));
        println!("{name}: batch changes a score by {worst:.1e}");
        assert!(worst <= 1e-5, "{name}: {worst:e}");
    }
}

/// The base path has its own keys and values: those of the blocks it goes through.
#[test]
fn the_base_path_skips_new_blocks_in_the_cache_too() {
    let model = load("llama2", vec![1]);
    let rows = rows("llama2");
    let request = ChoiceRequest {
        context: rows[0][..24].to_vec(),
        continuations: vec![rows[0][24..].to_vec(), rows[1][..8].to_vec()],
    };
    let score = |path| Scorer::new(&model, path).choices(std::slice::from_ref(&request)).unwrap();
    let expected: Vec<ChoiceScore> =
        request.continuations.iter().map(|c| plain(&model, Path::Base, &request.context, c)).collect();
    assert!(difference(&score(Path::Base), std::slice::from_ref(&expected)) <= 5e-5);
    let apart = (score(Path::Grown)[0][0].log_likelihood - expected[0].log_likelihood).abs();
    assert!(apart > 1e-2, "the block matters: {apart:e}");
}

/// Long contexts are cut into passes; the pieces see each other.
#[test]
fn long_contexts_go_through_several_passes() {
    for name in ["llama2", "mistral-window"] {
        let model = load(name, vec![]);
        let most = model.config().max_position_embeddings;
        let context: Vec<i64> = (0..most as i64 - 20).map(|i| (i * i * 31 + 7 * i) % 300 + 3).collect();
        let requests: Vec<ChoiceRequest> = (0..40)
            .map(|i| ChoiceRequest {
                context: [&context[..most - 60], &vec![i + 3; 20][..]].concat(),
                continuations: vec![vec![i, 4, 5, 6], vec![9; 12]],
            })
            .chain([ChoiceRequest { context: context.clone(), continuations: vec![vec![1; 20]] }])
            .collect();
        let got = Scorer::new(&model, Path::Grown).choices(&requests).unwrap();
        for r in [0, 17, 39, 40] {
            let expected: Vec<ChoiceScore> = requests[r]
                .continuations
                .iter()
                .map(|c| plain(&model, Path::Grown, &requests[r].context, c))
                .collect();
            let worst = difference(&got[r..=r], &[expected]);
            assert!(worst <= 5e-5, "{name}: request {r} differs by {worst:e}");
        }
    }
}

/// Ragged prompts side by side, against transformers' greedy text (with its cache, where that differs).
#[test]
fn greedy_text_is_that_of_transformers_alone_and_in_a_batch() {
    for name in FIXTURES {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let cached = expected.names().iter().any(|n| n == "greedy_cached");
        let greedy = expected.get(if cached { "greedy_cached" } else { "greedy" });
        let greedy = Vec::<i64>::try_from(greedy.view([-1])).unwrap();
        let model = load(name, vec![]);
        let rows = rows(name);
        let prompt = |row: &[i64]| GenerateRequest { prompt: row.to_vec(), max_new_tokens: greedy.len() };
        let mut scorer = Scorer::new(&model, Path::Grown);
        let wanted = prompt(&rows[0][..16]);
        let alone = scorer.generate(std::slice::from_ref(&wanted), &mut |_, _| false).unwrap();
        assert_eq!(alone[0], greedy, "{name}");
        let batch = [
            prompt(&rows[1][..5]),
            wanted.clone(),
            prompt(&rows[0][..1]),
            prompt(&rows[0][..31]),
            wanted.clone(),
            GenerateRequest { max_new_tokens: 3, ..wanted },
            GenerateRequest { max_new_tokens: 0, ..prompt(&rows[1]) },
        ];
        let texts = scorer.generate(&batch, &mut |_, _| false).unwrap();
        assert_eq!((&texts[1], &texts[4]), (&greedy, &greedy), "{name}");
        assert_eq!((&texts[5][..], texts[6].len()), (&greedy[..3], 0), "{name}");
        for (request, text) in batch.iter().zip(&texts).take(4) {
            let one = scorer.generate(std::slice::from_ref(request), &mut |_, _| false).unwrap();
            assert_eq!(&one[0], text, "{name}");
        }
    }
}

#[test]
fn generation_ends_where_it_is_told_and_where_the_model_ends() {
    let model = load("llama2", vec![]);
    let most = model.config().max_position_embeddings;
    let mut scorer = Scorer::new(&model, Path::Grown);
    let prompt = |n: usize| GenerateRequest { prompt: vec![5; n], max_new_tokens: 10 };
    let mut heard = Vec::new();
    let texts = scorer
        .generate(&[prompt(4), prompt(most), prompt(most - 2)], &mut |i, tokens| {
            heard.push((i, tokens.len()));
            i == 0 && tokens.len() == 3
        })
        .unwrap();
    assert_eq!(texts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 3]);
    heard.sort_unstable();
    assert_eq!(heard, [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2), (2, 3)]);
}

#[test]
fn what_cannot_be_scored_or_continued_is_named() {
    let model = load("llama2", vec![]);
    let most = model.config().max_position_embeddings;
    let mut scorer = Scorer::new(&model, Path::Grown);
    let mut choice = |context: Vec<i64>, continuation: Vec<i64>| {
        let good = ChoiceRequest { context: vec![5], continuations: vec![vec![6]] };
        let bad = ChoiceRequest { context, continuations: vec![continuation] };
        scorer.choices(&[good, bad]).unwrap_err().to_string()
    };
    assert_eq!(choice(vec![], vec![1]), "request 1: its context has no tokens");
    assert_eq!(choice(vec![1], vec![]), "request 1: a continuation has no tokens");
    assert!(choice(vec![1], vec![320]).contains("request 1: token id 320 is outside"));
    assert!(choice(vec![-1], vec![3]).contains("token id -1 is outside"));
    let long = choice(vec![1; most], vec![2, 3]);
    assert_eq!(long, format!("request 1: {} tokens to read, the model reads at most {most}", most + 1));
    let mut generate = |prompt: Vec<i64>| {
        let request = GenerateRequest { prompt, max_new_tokens: 1 };
        scorer.generate(&[request], &mut |_, _| false).unwrap_err().to_string()
    };
    assert_eq!(generate(vec![]), "prompt 0 has no tokens");
    assert!(generate(vec![400]).contains("token id 400"));
    assert!(generate(vec![4; most + 1]).contains(&format!("reads at most {most}")));
}
