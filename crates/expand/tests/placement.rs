//! The placement against an independent simulation (a list, and insertions into it), and its properties.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::path::Path;

use llama_pro_checkpoint::ConfigFile;
use llama_pro_expand::{Placement, PlannedLayer, plan};
use proptest::prelude::*;

fn blocks(blocks: usize, per_group: usize) -> Placement {
    Placement::Blocks { blocks, per_group }
}

fn as_pairs(layers: &[PlannedLayer]) -> Vec<(usize, bool)> {
    assert!(layers.iter().enumerate().all(|(index, layer)| layer.index == index));
    layers.iter().map(|layer| (layer.source, layer.new)).collect()
}

/// Where group `group` ends: the whole number nearest to (group + 1) * L / G, the larger of two equally near.
fn boundary(layers: usize, groups: usize, group: usize) -> usize {
    let distance = |end: usize| (end * groups).abs_diff((group + 1) * layers);
    (0..=layers).rev().min_by_key(|end| distance(*end)).unwrap()
}

/// The paper's construction by insertion, from the top group down so that indices below stay valid.
fn simulate_groups(layers: usize, groups: usize, per_group: usize) -> Vec<(usize, bool)> {
    let mut list: Vec<(usize, bool)> = (0..layers).map(|block| (block, false)).collect();
    for group in (0..groups).rev() {
        let end = boundary(layers, groups, group);
        let copies: Vec<_> = list[end - per_group..end].iter().map(|(block, _)| (*block, true)).collect();
        list.splice(end..end, copies);
    }
    list
}

fn simulate_positions(layers: usize, at: &[usize]) -> Vec<(usize, bool)> {
    let mut list: Vec<(usize, bool)> = (0..layers).map(|block| (block, false)).collect();
    let mut at = at.to_vec();
    at.sort_unstable();
    for position in at {
        list.insert(position, (list[position - 1].0, true));
    }
    list
}

#[test]
fn the_papers_seven_billion() {
    let layers = blocks(8, 1).layers(32).unwrap();
    let new: Vec<usize> = layers.iter().filter(|layer| layer.new).map(|layer| layer.index).collect();
    assert_eq!(new, [4, 9, 14, 19, 24, 29, 34, 39]);
    assert_eq!(layers[4].source, 3);
    assert_eq!(layers[39].source, 31);
}

#[test]
fn two_per_group_are_copied_as_a_unit() {
    let pairs = as_pairs(&blocks(4, 2).layers(8).unwrap());
    let (old, new) = (false, true);
    let expected = [
        (0, old),
        (1, old),
        (2, old),
        (3, old),
        (2, new),
        (3, new),
        (4, old),
        (5, old),
        (6, old),
        (7, old),
        (6, new),
        (7, new),
    ];
    assert_eq!(pairs, expected);
}

#[test]
fn consecutive_positions_copy_the_same_block() {
    let pairs = as_pairs(&Placement::At(vec![3, 2]).layers(3).unwrap());
    assert_eq!(pairs, [(0, false), (1, false), (1, true), (1, true), (2, false)]);
}

#[test]
fn the_order_of_positions_means_nothing() {
    let (a, b) = (Placement::At(vec![5, 1, 3]), Placement::At(vec![1, 3, 5]));
    assert_eq!(a.layers(4).unwrap(), b.layers(4).unwrap());
    assert_eq!(a.normalized(), b);
}

#[test]
fn refusals_name_the_number_and_the_range() {
    let refused = |placement: Placement, layers: usize| placement.layers(layers).unwrap_err().to_string();
    for (placement, layers, parts) in [
        (blocks(0, 1), 32, &["found 0", "1 to 32"][..]),
        (blocks(4, 0), 32, &["per group", "at least 1"]),
        (blocks(7, 2), 32, &["7", "multiple of 2"]),
        (blocks(33, 1), 32, &["33 groups", "at most 32"]),
        (blocks(24, 12), 16, &["12", "leave 8"]),
        (blocks(8, 4), 7, &["4", "leave 3"]),
        (blocks(usize::MAX, 1), 32, &["at most 32"]),
        (blocks(usize::MAX, usize::MAX), 32, &["leave 32"]),
        (Placement::At(vec![]), 4, &["empty"]),
        (Placement::At(vec![0, 3]), 4, &["position 0", "start at 1"]),
        (Placement::At(vec![3, 2, 3]), 4, &["position 3", "twice"]),
        (Placement::At(vec![1, 6]), 4, &["position 6", "1 to 5"]),
        (Placement::At(vec![usize::MAX]), 4, &["1 to 4"]),
        (blocks(1, 1), 0, &["found 0"]),
        (blocks(1, 1), usize::MAX, &["found"]),
    ] {
        let message = refused(placement.clone(), layers);
        assert!(parts.iter().all(|part| message.contains(part)), "{placement:?}: {message}");
    }
}

#[test]
fn the_plan_is_a_table() {
    let config = ConfigFile::from_json(Path::new("config.json"), r#"{"num_hidden_layers": 2}"#).unwrap();
    let plan = plan(&config, &blocks(1, 1)).unwrap();
    assert_eq!(plan.new_blocks(), [2]);
    assert_eq!(plan.base_layers(), 2);
    let text = plan.to_string();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["block", "from", "new", "bytes"],
            vec!["0", "0", "-"],
            vec!["1", "1", "-"],
            vec!["2", "1", "new", "-"]
        ]
    );
}

proptest! {
    #[test]
    fn groups_are_as_simulated((layers, groups, per_group) in sizes()) {
        let planned = blocks(groups * per_group, per_group).layers(layers).unwrap();
        let pairs = as_pairs(&planned);
        prop_assert_eq!(&pairs, &simulate_groups(layers, groups, per_group));
        // Exactly N new blocks; the base blocks are all there, in order; the last block is new.
        prop_assert_eq!(pairs.iter().filter(|pair| pair.1).count(), groups * per_group);
        let old: Vec<usize> = pairs.iter().filter(|pair| !pair.1).map(|pair| pair.0).collect();
        prop_assert_eq!(old, (0..layers).collect::<Vec<_>>());
        prop_assert!(pairs.last().unwrap().1);
        // Base blocks between two units of copies: even within one, and equal where G divides L.
        let sizes: Vec<usize> = pairs
            .chunk_by(|a, b| a.1 == b.1)
            .filter(|run| !run[0].1)
            .map(<[_]>::len)
            .collect();
        prop_assert_eq!(sizes.len(), groups);
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", sizes);
        if layers % groups == 0 {
            prop_assert_eq!(least, most);
        }
        // Units are the top of what lies below them, in order.
        for (end, run) in pairs.chunk_by(|a, b| a.1 == b.1).scan(0, |at, run| { *at += run.len(); Some((*at, run)) }) {
            if run[0].1 {
                prop_assert_eq!(run.len(), per_group);
                for (k, pair) in run.iter().enumerate() {
                    prop_assert_eq!(pair.0, pairs[end - 2 * per_group + k].0);
                }
            }
        }
    }

    #[test]
    fn positions_are_as_simulated(layers in 1usize..40, picks in proptest::collection::btree_set(1usize..80, 1..20)) {
        let at: Vec<usize> = picks.into_iter().collect();
        let fits = *at.last().unwrap() < layers + at.len();
        let planned = Placement::At(at.clone()).layers(layers);
        prop_assert_eq!(planned.is_ok(), fits);
        if let Ok(planned) = planned {
            let pairs = as_pairs(&planned);
            prop_assert_eq!(&pairs, &simulate_positions(layers, &at));
            let new: Vec<usize> = planned.iter().filter(|layer| layer.new).map(|layer| layer.index).collect();
            prop_assert_eq!(new, at);
        }
    }

    #[test]
    fn any_numbers_are_answered(layers in 0usize..70_000, blocks_in_all: usize, per_group: usize, at: Vec<usize>) {
        if let Ok(planned) = blocks(blocks_in_all, per_group).layers(layers) {
            prop_assert_eq!(planned.len(), layers + blocks_in_all);
        }
        if let Ok(planned) = Placement::At(at.clone()).layers(layers) {
            prop_assert_eq!(planned.len(), layers + at.len());
        }
    }
}

/// L, G and P that fit each other.
fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (1usize..=90)
        .prop_flat_map(|layers| (Just(layers), 1..=layers))
        .prop_flat_map(|(layers, groups)| (Just(layers), Just(groups), 1..=layers / groups))
}
