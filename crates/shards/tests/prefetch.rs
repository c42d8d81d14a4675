//! Prefetched batches are those of the sampler, and the thread ends when nobody waits.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::rows;
use llama_pro_shards::{Prefetch, Sampler};

fn sampler() -> Arc<Sampler> {
    let sources = vec![("a".into(), rows(0, 7, 5), 1.0), ("b".into(), rows(1000, 4, 5), 2.0)];
    Arc::new(Sampler::new(sources, 3).unwrap())
}

#[test]
fn batches_come_in_order_and_are_the_samplers() {
    let sampler = sampler();
    for ahead in [0, 1, 8] {
        let prefetch = Prefetch::new(sampler.clone(), 5, 3, ahead).unwrap();
        for (step, batch) in (5..30).zip(prefetch) {
            assert_eq!(batch.step, step);
            let samples = sampler.batch(step, 3);
            let expected: Vec<_> = samples.into_iter().map(|sample| (sample, sampler.row(&sample))).collect();
            assert_eq!(batch.rows, expected);
            if step % 7 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn dropping_ends_the_thread() {
    let sampler = sampler();
    let mut prefetch = Prefetch::new(sampler.clone(), 0, 2, 2).unwrap();
    prefetch.next().unwrap();
    assert_eq!(Arc::strong_count(&sampler), 2);
    drop(prefetch);
    // The thread had the other one.
    assert_eq!(Arc::strong_count(&sampler), 1);
}
