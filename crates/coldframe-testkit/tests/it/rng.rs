//! The generator repeats itself run for run, and only then.

use coldframe_testkit::rng::Rng;

#[test]
fn equal_seeds_give_equal_bytes() {
    assert_eq!(Rng::new(7).bytes(37), Rng::new(7).bytes(37));
    assert_ne!(Rng::new(7).bytes(37), Rng::new(8).bytes(37));
    assert_ne!(Rng::new(0).next_u64(), 0);
}

#[test]
fn numbers_stay_below_their_end() {
    let mut rng = Rng::new(1);
    let seen: Vec<u64> = (0..200).map(|_| rng.below(5)).collect();
    assert!((0..5).all(|n| seen.contains(&n)));
    assert!(seen.iter().all(|n| *n < 5));
}
