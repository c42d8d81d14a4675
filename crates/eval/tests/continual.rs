//! Continual-learning numbers against their definitions written out, and against a worked example.

use llama_pro_eval::continual::{Learned, Matrix};
use llama_pro_eval::significance::{exact, normal};
use llama_pro_eval::{PythonRandom, shift::Shift};
use serde_json::{Value, json};

fn task(name: &str, stage: Option<usize>) -> Learned {
    Learned { task: name.to_owned(), metric: Some("acc,none".to_owned()), stage }
}

fn record(scores: &[(&str, f64)]) -> Value {
    let rows = scores.iter().map(|(name, score)| {
        (
            (*name).to_owned(),
            json!({ "alias": name, "acc,none": score, "acc_stderr,none": 0.1, "word_perplexity,none": 9.0 }),
        )
    });
    json!({ "results": rows.collect::<serde_json::Map<_, _>>() })
}

/// Three tasks, each learned by its stage, one that none trains. The numbers were worked out by hand.
#[test]
fn a_worked_example() {
    let base = record(&[("a", 0.1), ("b", 0.2), ("c", 0.3), ("kept", 0.8)]);
    let one = record(&[("a", 0.6), ("b", 0.3), ("c", 0.3), ("kept", 0.7)]);
    let two = record(&[("a", 0.5), ("b", 0.7), ("c", 0.1), ("kept", 0.7)]);
    let three = record(&[("a", 0.4), ("b", 0.5), ("c", 0.9), ("kept", 0.6)]);
    let tasks = [task("a", Some(0)), task("b", Some(1)), task("c", Some(2)), task("kept", None)];
    let stages = [("one", &one), ("two", &two), ("three", &three)];
    let matrix = Matrix::from_records(Some(("base", &base)), &stages, &tasks).unwrap();
    let found = matrix.measure().unwrap();
    let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-12, "{x} {y}");
    near(found.overall, (0.4 + 0.5 + 0.9) / 3.0);
    near(found.bwt_trace, (-0.2 - 0.2) / 3.0);
    near(found.bwt_gem.unwrap(), (-0.2 - 0.2) / 2.0);
    near(found.forgetting.unwrap(), (0.2 + 0.2) / 2.0);
    near(found.forward_transfer.unwrap(), (0.1 - 0.2) / 2.0);
    near(found.kept.unwrap(), -0.2);
    for (found, expected) in found.overall_by_stage.iter().zip([0.6, 0.6, 0.6]) {
        near(*found, expected);
    }
    let svg = matrix.heat_map();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<rect ").count(), 1 + 4 * 4);
    assert_eq!(svg.matches("stroke-width").count(), 3, "the stage of each task is framed");
    assert!(svg.contains(">0.900<") && !svg.contains("script") && !svg.contains("href"));
}

/// Random matrices against the formulas as they stand in the papers, tasks numbered from 1.
#[test]
fn the_formulas_of_the_papers() {
    let mut random = PythonRandom::new(7);
    for count in 2..7 {
        let scores: Vec<Vec<f64>> =
            (0..count).map(|_| (0..count).map(|_| random.float()).collect()).collect();
        let base: Vec<f64> = (0..count).map(|_| random.float()).collect();
        let tasks = (0..count).map(|i| task(&i.to_string(), Some(i))).collect();
        let stages = (0..count).map(|i| i.to_string()).collect();
        let matrix = Matrix { stages, tasks, base: Some(base.clone()), scores: scores.clone() };
        let found = matrix.measure().unwrap();
        let r = |t: usize, i: usize| scores[t - 1][i - 1];
        let n = count as f64;
        let sum =
            |range: std::ops::RangeInclusive<usize>, f: &dyn Fn(usize) -> f64| range.map(f).sum::<f64>();
        let op = sum(1..=count, &|i| r(count, i)) / n;
        let trace = sum(1..=count, &|i| r(count, i) - r(i, i)) / n;
        let gem = sum(1..=count - 1, &|i| r(count, i) - r(i, i)) / (n - 1.0);
        let most = |i: usize| (1..count).map(|l| r(l, i)).fold(f64::MIN, f64::max);
        let forgetting = sum(1..=count - 1, &|i| most(i) - r(count, i)) / (n - 1.0);
        let forward = sum(2..=count, &|i| r(i - 1, i) - base[i - 1]) / (n - 1.0);
        let pairs = [
            (found.overall, op),
            (found.bwt_trace, trace),
            (found.bwt_gem.unwrap(), gem),
            (found.bwt_gem.unwrap(), trace * n / (n - 1.0)),
            (found.forgetting.unwrap(), forgetting),
            (found.forward_transfer.unwrap(), forward),
        ];
        for (found, expected) in pairs {
            assert!((found - expected).abs() < 1e-12, "{count}: {pairs:?}");
        }
    }
}

/// Stages that train several tasks or none, tasks that no stage trains: every number from a table of single changes.
#[test]
fn several_tasks_of_a_stage() {
    let mut random = PythonRandom::new(19);
    let mut seen = [0; 3];
    for _ in 0..200 {
        let (count, stages) = (1 + random.choice(6), 1 + random.choice(5));
        let own: Vec<Option<usize>> =
            (0..count).map(|_| Some(random.choice(stages + 1)).filter(|stage| *stage < stages)).collect();
        if own.iter().all(Option::is_none) {
            continue;
        }
        let row = |random: &mut PythonRandom| (0..count).map(|_| random.float()).collect::<Vec<f64>>();
        let base = row(&mut random);
        let scores: Vec<Vec<f64>> = (0..stages).map(|_| row(&mut random)).collect();
        let tasks = own.iter().enumerate().map(|(i, stage)| task(&i.to_string(), *stage)).collect();
        let names = (0..stages).map(|i| i.to_string()).collect();
        let found = Matrix { stages: names, tasks, base: Some(base.clone()), scores: scores.clone() }
            .measure()
            .unwrap();
        let end = &scores[stages - 1];
        // Each list is of the tasks that the definition takes, one number for each.
        let (mut at_end, mut since, mut followed, mut lost, mut before, mut kept) =
            (vec![], vec![], vec![], vec![], vec![], vec![]);
        for i in 0..count {
            let Some(stage) = own[i] else {
                kept.push(end[i] - base[i]);
                continue;
            };
            at_end.push(end[i]);
            since.push(end[i] - scores[stage][i]);
            if stage + 1 < stages {
                followed.push(end[i] - scores[stage][i]);
                let mut earlier: Vec<f64> = scores[..stages - 1].iter().map(|row| row[i]).collect();
                earlier.sort_by(f64::total_cmp);
                lost.push(earlier[earlier.len() - 1] - end[i]);
            }
            if stage > 0 {
                before.push(scores[stage - 1][i] - base[i]);
            }
        }
        let mean = |all: &[f64]| (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64);
        let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-12,
            (a, b) => a.is_none() && b.is_none(),
        };
        assert!(near(Some(found.overall), mean(&at_end)), "{own:?}");
        assert!(near(Some(found.bwt_trace), mean(&since)), "{own:?}");
        assert!(near(found.bwt_gem, mean(&followed)), "{own:?}");
        assert!(near(found.forgetting, mean(&lost)), "{own:?}");
        assert!(near(found.forward_transfer, mean(&before)), "{own:?}");
        assert!(near(found.kept, mean(&kept)), "{own:?}");
        assert_eq!(found.overall_by_stage.len(), stages);
        seen[0] += usize::from(found.bwt_gem.is_none());
        seen[1] += usize::from(found.kept.is_some() && found.forward_transfer.is_some());
        seen[2] += usize::from(own.iter().flatten().count() > stages);
    }
    assert!(seen.iter().all(|times| *times > 10), "{seen:?}");
}

/// The name of an element, and names and values of its attributes.
type Element = (String, Vec<(String, String)>);

/// The elements of a document, or what is not well-formed about it.
fn parse_xml(text: &str) -> Result<Vec<Element>, String> {
    let (mut rest, mut open, mut all) = (text, Vec::new(), Vec::new());
    let content = |text: &str| -> Result<(), String> {
        let bad = |c: char| c < ' ' && !"\t\n\r".contains(c) || matches!(c, '\u{fffe}' | '\u{ffff}');
        let entities = text
            .split('&')
            .skip(1)
            .all(|after| ["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|name| after.starts_with(name)));
        match text.contains(['<', '>']) || text.contains(bad) || !entities {
            true => Err(format!("{text:?} cannot stand in XML")),
            false => Ok(()),
        }
    };
    while let Some(at) = rest.find('<') {
        content(&rest[..at])?;
        if open.is_empty() && !rest[..at].trim().is_empty() {
            return Err("text outside the root".to_owned());
        }
        let end = rest[at..].find('>').ok_or("a tag without end")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let opened = open.pop().ok_or("an end without a beginning")?;
            if name != opened {
                return Err(format!("</{name}> ends <{opened}>"));
            }
            continue;
        }
        if open.is_empty() && !all.is_empty() {
            return Err("two roots".to_owned());
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut words) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes: Vec<(String, String)> = Vec::new();
        while !words.trim().is_empty() {
            let (key, after) = words.trim_start().split_once("=\"").ok_or("an attribute without a value")?;
            let (value, after) = after.split_once('"').ok_or("a value without end")?;
            content(value)?;
            if key.contains(' ') || attributes.iter().any(|(other, _)| other == key) {
                return Err(format!("the attribute {key:?}"));
            }
            attributes.push((key.to_owned(), value.to_owned()));
            words = after;
        }
        all.push((name.to_owned(), attributes));
        if !closed {
            open.push(name.to_owned());
        }
    }
    match (open.is_empty(), rest.trim().is_empty()) {
        (true, true) => Ok(all),
        _ => Err(format!("{open:?} are open, {rest:?} is left")),
    }
}

#[test]
fn the_heat_map_is_well_formed_whatever_tasks_are_called() {
    for bad in
        ["<a>", "<a></b>", "<a b=c/>", "<a>&x;</a>", "<a>\u{1}</a>", "<a b=\"1\" b=\"2\"/>", "<a/><b/>"]
    {
        assert!(parse_xml(bad).is_err(), "the test itself is wrong: {bad}");
    }
    let names =
        ["a", "<b>", "c & \"d\"", "e'f", "g\u{1}\u{b}h", "i\nj\tk", "\u{fffe}\u{e9}\u{1f600}", "]]>", "&lt;"];
    let tasks: Vec<Learned> = names.iter().enumerate().map(|(i, name)| task(name, Some(i % 3))).collect();
    let stages: Vec<String> = ["one <1>", "two&", "\u{0}three"].map(str::to_owned).into();
    let value = |t: usize, i: usize| (t * 9 + i) as f64 / 27.0;
    let scores: Vec<Vec<f64>> = (0..3).map(|t| (0..9).map(|i| value(t, i)).collect()).collect();
    for base in [None, Some(vec![0.5; 9])] {
        let rows = 3 + usize::from(base.is_some());
        let matrix = Matrix { stages: stages.clone(), tasks: tasks.clone(), base, scores: scores.clone() };
        let svg = matrix.heat_map();
        let elements = parse_xml(&svg).unwrap();
        assert_eq!((elements[0].0.as_str(), elements[1].0.as_str()), ("svg", "title"));
        let number = |attributes: &[(String, String)], key: &str| -> f64 {
            attributes.iter().find(|(name, _)| name == key).unwrap().1.parse().unwrap()
        };
        let (width, height) = (number(&elements[0].1, "width"), number(&elements[0].1, "height"));
        let cells: Vec<_> = elements.iter().filter(|(name, _)| name == "rect").skip(1).collect();
        assert_eq!(cells.len(), rows * 9);
        for (_, attributes) in &cells {
            let right = number(attributes, "x") + number(attributes, "width");
            let bottom = number(attributes, "y") + number(attributes, "height");
            assert!(right <= width && bottom <= height, "a cell outside the picture");
        }
        // No two cells lie on each other.
        let places: std::collections::BTreeSet<String> = cells
            .iter()
            .map(|(_, attributes)| format!("{} {}", number(attributes, "x"), number(attributes, "y")))
            .collect();
        assert_eq!(places.len(), cells.len());
        assert_eq!(elements.iter().filter(|(name, _)| name == "text").count(), 9 + rows + rows * 9);
    }
}

#[test]
fn what_does_not_fit_is_refused_in_one_line() {
    let good = record(&[("a", 0.5)]);
    let stage = [("s.json", &good)];
    let none = json!({ "results": { "a": { "alias": "a", "word_perplexity,none": 9.0 } } });
    let metric = |metric: &str| Learned { task: "a".into(), metric: Some(metric.into()), stage: Some(0) };
    let cases: [(Result<Matrix, _>, &str); 7] = [
        (Matrix::from_records(None, &[], &[task("a", Some(0))]), "no stage"),
        (Matrix::from_records(None, &stage, &[task("b", Some(0))]), "s.json has no result of the task \"b\""),
        (Matrix::from_records(None, &stage, &[task("a", Some(1))]), "a: stage 1 of 1"),
        (Matrix::from_records(None, &stage, &[task("a", None)]), "no task was trained"),
        (
            Matrix::from_records(None, &stage, &[metric("f1,none")]),
            "s.json: the task \"a\" has no \"f1,none\"; it has acc,none",
        ),
        (Matrix::from_records(None, &stage, &[metric("word_perplexity,none")]), "less is better"),
        (
            Matrix::from_records(
                None,
                &[("p.json", &none)],
                &[Learned { metric: None, ..task("a", Some(0)) }],
            ),
            "no metric of which more",
        ),
    ];
    for (found, expected) in cases {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    let error =
        Matrix::from_records(Some(("b.json", &json!([]))), &stage, &[task("a", Some(0))]).unwrap_err();
    assert_eq!(error.to_string(), "b.json is no result file: it has no \"results\"");
    // With one task there is nothing to forget, and no metric has to be named.
    let tasks = [Learned { metric: None, ..task("a", Some(0)) }];
    let found = Matrix::from_records(None, &stage, &tasks).unwrap().measure().unwrap();
    assert_eq!((found.overall, found.bwt_trace, found.bwt_gem, found.forgetting), (0.5, 0.0, None, None));
}

/// Rank by sorting, divergence by its definition over probabilities.
#[test]
fn shift_is_that_of_sorted_probabilities() {
    let mut random = PythonRandom::new(3);
    let mut shift = Shift::default();
    let (mut ranks, mut divergence) = (Vec::new(), 0.0);
    for round in 0..300 {
        let base: Vec<f32> = (0..40).map(|_| (random.float() * 8.0) as f32).collect();
        // Some near the base, some far, some equal.
        let noise = f64::from(round % 4);
        let tuned: Vec<f32> = base.iter().map(|x| x + (random.float() * noise) as f32).collect();
        shift.add(&base, &tuned).unwrap();
        let softmax = |logits: &[f32]| {
            let powers: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|p| p / sum).collect::<Vec<f64>>()
        };
        let (p, q) = (softmax(&tuned), softmax(&base));
        divergence += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        let order = |p: &[f64]| {
            let mut order: Vec<usize> = (0..p.len()).collect();
            order.sort_by(|x, y| p[*y].total_cmp(&p[*x]));
            order
        };
        let best = order(&p)[0];
        ranks.push(1 + order(&q).iter().position(|i| *i == best).unwrap());
        let mut top = Shift::default();
        let first: Vec<i64> = order(&q)[..5].iter().map(|i| i64::try_from(*i).unwrap()).collect();
        top.add_top(&first, i64::try_from(best).unwrap()).unwrap();
        let rank = ranks[ranks.len() - 1];
        assert_eq!(
            (top.unshifted, top.marginal, top.shifted),
            (u64::from(rank == 1), u64::from((2..=3).contains(&rank)), u64::from(rank > 3))
        );
    }
    let count = |range: std::ops::RangeInclusive<usize>| {
        ranks.iter().filter(|r| range.contains(r)).count() as f64 / 300.0
    };
    assert_eq!(shift.shares().unwrap(), [count(1..=1), count(2..=3), count(4..=99)]);
    assert!(shift.shares().unwrap().iter().all(|share| *share > 0.0), "the test must see all three kinds");
    assert!((shift.mean_divergence().unwrap() - divergence / 300.0).abs() < 1e-9);
    assert_eq!(Shift::default().shares(), None);
    assert!(shift.add(&[1.0], &[1.0, 2.0]).is_err() && shift.add(&[f32::NAN], &[1.0]).is_err());
    assert!(shift.add_top(&[1, 2], 3).is_err());
    // Equal likelihoods: the first is the greedy one, and it is the base's first as well.
    let mut equal = Shift::default();
    equal.add(&[1.0, 1.0], &[2.0, 2.0]).unwrap();
    assert_eq!((equal.unshifted, equal.divergence), (1, 0.0));
}

/// The exact test by flipping every sign, the normal one against known values.
#[test]
fn significance_is_that_of_all_sign_flips() {
    let mut random = PythonRandom::new(11);
    for _ in 0..40 {
        let count = 1 + random.choice(10);
        let differences: Vec<f64> = (0..count).map(|_| [-1.0, 0.0, 1.0, 1.0][random.choice(4)]).collect();
        let sum: f64 = differences.iter().sum();
        let flipped = |signs: u32| {
            let signed =
                differences.iter().enumerate().map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d });
            signed.sum::<f64>().abs() >= sum.abs() - 1e-9
        };
        let all = 1_u32 << count;
        let expected =
            f64::from(u32::try_from((0..all).filter(|s| flipped(*s)).count()).unwrap()) / f64::from(all);
        let found = exact(&differences).unwrap();
        assert!((found - expected).abs() < 1e-12, "{differences:?}: {found} {expected}");
    }
    assert_eq!(exact(&[0.5]), None);
    assert_eq!(exact(&[]), Some(1.0));
    // 2 (1 - Phi(z)) from tables of the normal distribution.
    let known = [
        (0.0, 1.0),
        (1.0, 0.317310507862914),
        (1.959963984540054, 0.05),
        (3.0, 0.002699796063260),
        (5.0, 5.733031437583892e-7),
    ];
    for (z, p) in known {
        assert!((normal(z) - p).abs() < 1e-12 + 1e-9 * p, "{z}: {}", normal(z));
        assert_eq!(normal(-z), normal(z));
    }
}

/// Two records with samples: the differences between pairs decide, by all sign flips; without samples, the two standard
/// errors do.
#[test]
fn records_are_compared_pairwise_where_they_can_be() {
    let mut random = PythonRandom::new(5);
    for round in 0..30 {
        let count = 2 + random.choice(9);
        let right = |random: &mut PythonRandom, share: f64| -> Vec<f64> {
            (0..count).map(|_| f64::from(u8::from(random.float() < share))).collect()
        };
        let (a, b) = (right(&mut random, 0.3), right(&mut random, 0.3 + 0.02 * f64::from(round)));
        let record = |values: &[f64], samples: bool| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0);
            let stderr = (spread / values.len() as f64).sqrt();
            let all: Vec<Value> = values
                .iter()
                .enumerate()
                .map(|(i, v)| json!({ "filter": "none", "doc_hash": format!("{i}"), "acc": v }))
                .collect();
            let mut record =
                json!({ "results": { "t": { "alias": "t", "acc,none": mean, "acc_stderr,none": stderr } } });
            if samples {
                record["samples"] = json!({ "t": all });
            }
            (record, mean, stderr)
        };
        let ((left, x, _), (other, y, _)) = (record(&a, true), record(&b, true));
        let changes = llama_pro_eval::report::changes(&left, &other).unwrap();
        assert_eq!((changes.len(), changes[0].paired, changes[0].a, changes[0].b), (1, true, x, y));
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        let sum: f64 = differences.iter().sum();
        let as_far = (0_u32..1 << count).filter(|signs| {
            let one = |(i, d): (usize, &f64)| if signs >> i & 1 == 1 { -d } else { *d };
            differences.iter().enumerate().map(one).sum::<f64>().abs() >= sum.abs() - 1e-9
        });
        let p = as_far.count() as f64 / f64::from(1_u32 << count);
        assert!((changes[0].p.unwrap() - p).abs() < 1e-12, "{differences:?}: {:?} {p}", changes[0].p);
        let expected = match (p < 0.05, y > x) {
            (false, _) => "no difference seen",
            (true, true) => "better",
            (true, false) => "worse",
        };
        assert_eq!(changes[0].verdict(), expected);
        let ((left, x, e), (other, y, f)) = (record(&a, false), record(&b, false));
        let change = &llama_pro_eval::report::changes(&left, &other).unwrap()[0];
        assert!(!change.paired);
        if e.hypot(f) > 0.0 {
            assert!((change.stderr.unwrap() - e.hypot(f)).abs() < 1e-12);
            assert!((change.p.unwrap() - normal((y - x) / e.hypot(f))).abs() < 1e-12);
        }
    }
}
