//! Who copies a block.

use coldframe_fault::{BlockIndex, Claimed, Claims};

const BLOCK: BlockIndex = BlockIndex::new(1);

#[test]
fn a_block_is_claimed_once_and_copied_once() {
    let claims = Claims::new(2);
    let Claimed::Mine(claim) = claims.claim(BLOCK) else {
        panic!("it is free");
    };
    assert!(matches!(claims.claim(BLOCK), Claimed::InProgress));
    claim.copied();
    assert!(matches!(claims.claim(BLOCK), Claimed::Copied));
    assert!(claims.removed(BLOCK) && !claims.is_complete());
    match claims.claim(BlockIndex::new(0)) {
        Claimed::Mine(claim) => claim.copied(),
        other => panic!("{other:?}"),
    }
    assert!(claims.is_complete());
    assert!(matches!(claims.claim(BlockIndex::new(2)), Claimed::Copied));
}

#[test]
fn a_copy_that_fails_cancels_the_capture() {
    let claims = Claims::new(2);
    drop(claims.claim(BLOCK));
    assert!(claims.is_cancelled());
    assert!(matches!(
        claims.claim(BlockIndex::new(0)),
        Claimed::Cancelled
    ));
}

#[test]
fn pages_that_go_before_they_are_copied_cancel_the_capture() {
    for is_claimed in [false, true] {
        let claims = Claims::new(2);
        let claim = is_claimed.then(|| claims.claim(BLOCK));
        assert!(!claims.removed(BLOCK));
        assert!(claims.is_cancelled() && !claims.is_complete());
        drop(claim);
    }
}
