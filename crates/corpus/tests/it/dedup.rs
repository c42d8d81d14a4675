//! MinHash and clusters against definitions written out here and figures computed by datasketch.

use std::collections::BTreeSet;

use llama_pro_corpus::{Dedup, MinHash, Near, clusters, optimal_bands};
use proptest::prelude::*;

/// Han, kana and Thai by their main blocks: all that the texts here have.
fn stands_alone(c: char) -> bool {
    ('\u{0e00}'..='\u{0e7f}').contains(&c) || ('\u{3041}'..='\u{9fff}').contains(&c)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Each letter of a script without spaces set apart from the letters beside it.
fn set_apart(text: &str) -> String {
    let mut spaced = String::new();
    let mut before: Option<char> = None;
    for c in text.chars() {
        if before.is_some_and(|b| is_word(b) && is_word(c) && (stands_alone(b) || stands_alone(c))) {
            spaced.push(' ');
        }
        spaced.push(c);
        before = Some(c);
    }
    spaced
}

/// The word 5-grams of BigCode's definition, with the letters of all scripts.
fn shingles(text: &str) -> BTreeSet<String> {
    let spaced = set_apart(text);
    let words: Vec<&str> = spaced.split(|c: char| !is_word(c)).collect();
    words.windows(5).map(|window| window.join(" ")).collect()
}

fn jaccard(a: &str, b: &str) -> f64 {
    let (a, b) = (shingles(a), shingles(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

#[test]
fn bands_and_rows_are_datasketchs() {
    for (permutations, threshold, expected) in [
        (256, 0.5, (42, 6)),
        (256, 0.58, (36, 7)),
        (256, 0.7, (25, 10)),
        (256, 0.8, (17, 15)),
        (256, 0.85, (13, 19)),
        (128, 0.7, (14, 9)),
        (128, 0.8, (9, 13)),
        (128, 0.85, (8, 16)),
    ] {
        assert_eq!(optimal_bands(threshold, permutations), expected, "{permutations} at {threshold}");
    }
    assert_eq!(Near::default().shape(), (25, 10));
}

/// A text and one with some of its words changed.
fn pair(seed: u64, words: usize, change_one_in: u64) -> (String, String) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    let (mut a, mut b) = (String::new(), String::new());
    for _ in 0..words {
        let word = format!("w{}", next() % 4000);
        a.push_str(&word);
        b.push_str(&if next() % change_one_in == 0 { format!("x{}", next() % 4000) } else { word });
        let between = [" ", "\n", ", ", " é "][next() as usize % 4];
        a.push_str(between);
        b.push_str(between);
    }
    (a, b)
}

#[test]
fn equal_minima_estimate_the_jaccard_similarity() {
    // 1,024 functions, so the standard deviation is at most 1/64.
    let near = Near { bands: Some(64), rows: Some(16), ..Near::default() };
    let minhash = MinHash::new(&near);
    let mut errors = Vec::new();
    for seed in 0..60 {
        let (a, b) = pair(seed, 300 + seed as usize * 20, 4 + seed);
        let (x, y) = (minhash.signature(&a), minhash.signature(&b));
        let equal = x.iter().zip(&y).filter(|(x, y)| x == y).count() as f64 / x.len() as f64;
        let error = equal - jaccard(&a, &b);
        assert!(error.abs() < 5.0 / 64.0, "{seed}: {equal} {error}");
        errors.push(error);
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(mean.abs() < 4.0 / 64.0 / 60f64.sqrt(), "biased by {mean}");
}

#[test]
fn pairs_are_found_as_often_as_the_curve_says() {
    let dedup = Dedup { near: Some(Near::default()), ..Dedup::default() };
    let mut found = [0.0; 2];
    let mut expected = [0.0; 2];
    for seed in 0..150u64 {
        for (class, one_in) in [9, 30].into_iter().enumerate() {
            let (a, b) = pair(seed * 2 + class as u64, 250, one_in);
            let s = jaccard(&a, &b);
            expected[class] += 1.0 - (1.0 - s.powi(10)).powi(25);
            found[class] += f64::from(u8::from(clusters(&[a, b], &dedup).unwrap()[1] == 0));
        }
    }
    // The classes lie around the threshold and well above it; five standard deviations of 150 draws at most.
    for class in 0..2 {
        assert!((found[class] - expected[class]).abs() < 5.0 * 0.5 * 150f64.sqrt(), "{found:?} {expected:?}");
    }
    assert!(expected[1] > 130.0 && expected[0] < 75.0, "{expected:?}");
}

/// A text of words in one script, as many of them drawn anew as asked for.
fn written(script: &str, seed: u64, words: usize, change_one_in: u64) -> (String, String) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    };
    let word = |next: &mut dyn FnMut() -> u32| -> String {
        let (first, letters, length, after) = match script {
            "han" => (0x4e00, 3000, 1, ""),
            "kana" => (0x3041, 80, 1, ""),
            "thai" => (0x0e01, 46, 1, ""),
            "cyrillic" => (0x430, 32, 6, " "),
            "greek" => (0x3b1, 24, 5, " "),
            _ => (0x61, 26, 5, " "),
        };
        let letter = |at: u32| char::from_u32(first + at % letters).unwrap();
        (0..length).map(|_| letter(next())).collect::<String>() + after
    };
    let (mut a, mut b) = (String::new(), String::new());
    for i in 0..words {
        let one = word(&mut next);
        a.push_str(&one);
        let changed = u64::from(next()) % change_one_in == 0;
        b.push_str(&if changed { word(&mut next) } else { one });
        if i % 20 == 19 {
            a.push_str("。\n");
            b.push_str("。\n");
        }
    }
    (a, b)
}

#[test]
fn texts_in_any_script_are_near_to_their_like_and_to_no_other() {
    let dedup = Dedup { exact: false, near: Some(Near::default()), ..Dedup::default() };
    for script in ["latin", "cyrillic", "greek", "han", "kana", "thai"] {
        let (a, b) = written(script, 1, 600, 200);
        let other = written(script, 2, 600, 200).0;
        assert!(jaccard(&a, &b) > 0.9 && jaccard(&a, &other) < 0.2, "{script}");
        let mixed = format!("int main() {{ return 0; }} {other}");
        assert_eq!(clusters(&[&a, &other, &b, &mixed], &dedup).unwrap(), [0, 1, 0, 1], "{script}");
    }
}

#[test]
fn short_documents_are_near_only_to_their_like() {
    let texts = ["a b", "c d", "a  b", "a b", "", "x", "x", "a b c d"];
    let near = Near::default();
    let exact = Dedup { exact: true, near: Some(near), ..Dedup::default() };
    assert_eq!(clusters(&texts, &exact).unwrap(), [0, 1, 2, 0, 4, 5, 5, 7]);
    // "a  b" has an empty word in the middle, and punctuation is no word.
    let near_only = Dedup { exact: false, ..exact };
    assert_eq!(clusters(&["a b", "a.b", "a, b", "a; b"], &near_only).unwrap(), [0, 0, 2, 2]);
}

proptest! {
    #![proptest_config(crate::cases::cases(40))]

    #[test]
    fn neither_threads_nor_memory_change_the_clusters(seed: u64, n in 2usize..60) {
        let mut texts = Vec::new();
        for i in 0..n as u64 {
            let (a, b) = pair(seed ^ (i / 3), 60, 30 + i);
            texts.extend([a, b]);
        }
        let dedup = Dedup { near: Some(Near::default()), ..Dedup::default() };
        // 32 bytes a document in the larger pass: with this budget there are several.
        let run = |threads: usize, dedup: &Dedup| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| clusters(&texts, dedup).unwrap())
        };
        let one = run(1, &dedup);
        prop_assert_eq!(&one, &run(4, &dedup));
        // A cluster's name is its first member, and names are members of their own cluster.
        prop_assert!(one.iter().enumerate().all(|(i, &name)| name as usize <= i && one[name as usize] == name));
    }

    #[test]
    fn letters_of_scripts_without_spaces_are_words(text in "[ab中文がไ,。 é_яб🦀]{0,40}") {
        let minhash = MinHash::new(&Near::default());
        prop_assert_eq!(minhash.signature(&text), minhash.signature(&set_apart(&text)), "{:?}", text);
        // Which white space or punctuation it is does not matter.
        let lines = text.replace([' ', '。', '🦀'], "\n");
        prop_assert_eq!(minhash.signature(&text), minhash.signature(&lines), "{:?}", text);
    }

    #[test]
    fn a_signature_depends_on_the_set_of_shingles(text in "[a-c_ .,\né中文я]{0,200}") {
        let minhash = MinHash::new(&Near::default());
        // Repeated with its last four words before it, every shingle is one of the first copy or of the seam; a
        // third copy adds none.
        let twice = format!("{text} {text}");
        let thrice = format!("{text} {text} {text}");
        if shingles(&twice) == shingles(&thrice) && !shingles(&twice).is_empty() {
            prop_assert_eq!(minhash.signature(&twice), minhash.signature(&thrice));
        }
    }
}
