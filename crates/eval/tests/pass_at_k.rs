//! pass@k against its definition, the share of all choices of k programs that hold one that passes, and against exact
//! fractions where there are too many choices to go through.

use llama_pro_eval::pass_at_k;

/// Goes through every choice of `k` of `n` programs, of which the first `c` pass.
fn counted(n: usize, c: usize, k: usize) -> f64 {
    let choices = (0_u32..1 << n).filter(|set| set.count_ones() as usize == k);
    let (mut all, mut passing) = (0_u32, 0_u32);
    for set in choices {
        all += 1;
        passing += u32::from(set & ((1 << c) - 1) != 0);
    }
    f64::from(passing) / f64::from(all)
}

#[test]
fn it_is_the_share_of_choices_with_a_program_that_passes() {
    let mut compared = 0;
    for n in 1..=11 {
        for c in 0..=n {
            for k in 1..=n {
                let (found, expected) = (pass_at_k(n, c, k).unwrap(), counted(n, c, k));
                assert!((found - expected).abs() < 1e-14, "{n} {c} {k}: {found}, expected {expected}");
                compared += 1;
            }
            // There is no choice of more programs than there are.
            assert_eq!(pass_at_k(n, c, n + 1), None);
        }
        assert_eq!(pass_at_k(n, n + 1, 1), None);
    }
    assert_eq!(compared, (1..=11).map(|n| (n + 1) * n).sum::<usize>());
}

/// `float(1 - Fraction(comb(n - c, k), comb(n, k)))` of CPython. The binomials of 200 have up to 59 digits; nothing may
/// overflow or lose its digits on the way.
#[test]
fn two_hundred_programs_and_more_lose_no_digits() {
    for (n, c, k, expected) in [
        (200, 1, 1, 0.005),
        (200, 1, 10, 0.05),
        (200, 1, 100, 0.5),
        (200, 3, 100, 0.8768844221105527),
        (200, 17, 10, 0.5974489015799118),
        (200, 17, 100, 0.99999636769084),
        (200, 64, 2, 0.5386934673366834),
        (200, 100, 10, 0.9992289739372822),
        (200, 100, 100, 1.0),
        (200, 101, 100, 1.0),
        (200, 190, 10, 1.0),
        (200, 199, 1, 0.995),
        (200, 0, 100, 0.0),
        (200, 200, 100, 1.0),
        (1000, 7, 500, 0.9923509039500229),
        (100000, 1, 1, 1e-05),
        (100000, 99999, 1, 0.99999),
        (100000, 40, 5000, 0.8715406044862747),
    ] {
        let found = pass_at_k(n, c, k).unwrap();
        assert!((found - expected).abs() <= 1e-12 * expected, "{n} {c} {k}: {found}, expected {expected}");
    }
}

#[test]
fn it_grows_with_every_program_that_passes_and_every_try() {
    for c in 0..200 {
        for k in [1, 2, 10, 100, 199] {
            let here = pass_at_k(200, c, k).unwrap();
            assert!((0.0..=1.0).contains(&here), "{c} {k}: {here}");
            assert!(pass_at_k(200, c + 1, k).unwrap() >= here - 1e-15, "{c} {k}");
            assert!(pass_at_k(200, c, k + 1).unwrap() >= here - 1e-15, "{c} {k}");
        }
        // One try is the plain share.
        assert!((pass_at_k(200, c, 1).unwrap() - c as f64 / 200.0).abs() < 1e-12);
    }
}
