//! How much is said.

use super::*;

#[test]
fn a_few_are_said_at_once_and_the_others_are_counted() {
    let mut lately = Lately::default();
    let start = Instant::now();
    for _ in 0..LINES_MAX {
        assert_eq!(lately.one_more(start), Say::It { others: 0 });
    }
    for _ in 0..1000 {
        assert_eq!(lately.one_more(start + PERIOD / 2), Say::Nothing);
    }
    assert_eq!(lately.one_more(start + PERIOD), Say::It { others: 1000 });
    assert_eq!(lately.one_more(start + PERIOD), Say::It { others: 0 });
}
