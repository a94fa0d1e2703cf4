//! What rules keep.

use std::time::Duration;

use super::kept;

#[test]
fn a_tag_is_kept_if_any_rule_keeps_it() {
    let times = [100, 90, 90, 50, 10].map(Duration::from_secs);
    let within = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        kept(&times, Some(1), None),
        [true, false, false, false, false]
    );
    assert_eq!(
        kept(&times, Some(2), None),
        [true, true, true, false, false]
    );
    assert_eq!(kept(&times, Some(9), None), [true; 5]);
    // Of the newest, not of now; and the newest always.
    assert_eq!(
        kept(&times, None, within(0)),
        [true, false, false, false, false]
    );
    assert_eq!(
        kept(&times, None, within(10)),
        [true, true, true, false, false]
    );
    assert_eq!(
        kept(&times, Some(4), within(10)),
        [true, true, true, true, false]
    );
    assert!(kept(&[], Some(1), None).is_empty());
}

#[test]
fn those_that_may_be_as_late_are_kept_together() {
    let times = [9_400, 9_100, 8_900, 8_400, 2_000].map(Duration::from_millis);
    assert_eq!(
        kept(&times, Some(1), None),
        [true, true, true, false, false]
    );
    let times = [9, 9, 9, 8, 8].map(Duration::from_secs);
    assert_eq!(
        kept(&times, Some(1), None),
        [true, true, true, false, false]
    );
    assert_eq!(kept(&times, Some(4), None), [true; 5]);
    let within = Some(Duration::ZERO);
    assert_eq!(kept(&times, None, within), [true, true, true, false, false]);
}
