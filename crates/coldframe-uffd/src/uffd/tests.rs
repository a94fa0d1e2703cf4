//! What the kernel leaves in its structures, and what is made of it.

use nix::errno::Errno;

use super::Filled;
use crate::sys::Answer;

const LEN: u64 = 0x10000;

#[track_caller]
fn check(count: i64, errno: Option<Errno>, expected: Result<Filled, Errno>) {
    assert_eq!(Filled::of(Answer { count, errno }, LEN), expected);
}

fn part(bytes: u64) -> Result<Filled, Errno> {
    Ok(Filled::Part {
        bytes: coldframe_units::ByteLen::new(bytes),
    })
}

#[test]
fn counts_and_errors_of_the_kernel_make_one_answer() {
    check(0x10000, None, Ok(Filled::All));
    check(0x3000, Some(Errno::EAGAIN), part(0x3000));
    check(-17, Some(Errno::EEXIST), Ok(Filled::Present));
    // Older kernels leave the count alone while memory is changing, newer ones do not.
    check(0, Some(Errno::EAGAIN), Ok(Filled::Changing));
    check(-11, Some(Errno::EAGAIN), Ok(Filled::Changing));
    for errno in [Errno::ENOENT, Errno::ESRCH, Errno::ENOMEM, Errno::EINVAL] {
        check(-i64::from(errno as i32), Some(errno), Err(errno));
        check(0, Some(errno), Err(errno));
        // What was done was done: the next call names the error.
        check(0x1000, Some(errno), part(0x1000));
    }
}

#[test]
fn counts_that_make_no_sense_are_no_success() {
    check(0x3000, None, part(0x3000));
    check(-22, None, Ok(Filled::Changing));
    check(i64::MAX, Some(Errno::EAGAIN), part(LEN));
    check(i64::MIN, Some(Errno::EAGAIN), Ok(Filled::Changing));
}
