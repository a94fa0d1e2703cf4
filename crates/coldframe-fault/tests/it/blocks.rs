//! What a block goes through, case by case.

use std::time::Duration;

use coldframe_fault::{
    Answer, Batch, BlockIndex, Cause, Content, Core, Depth, Fault, Geometry, Notice, PageOrigin,
    Poisoning, Region, Step, Task, Ticket,
};
use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RamOffset};

fn core_with(poisoning: Poisoning, blocks: u64) -> Core {
    let region = Region {
        host: 0x7000_0000,
        ram: RamOffset::ZERO,
        len: ByteLen::new(blocks << 16),
    };
    let geometry = Geometry::new(vec![region], PageSize::SIZE_4K).unwrap();
    Core::new(geometry, poisoning, ByteLen::new(1 << 20))
}

fn core(blocks: u64) -> Core {
    core_with(Poisoning::Available, blocks)
}

fn run(start: u64, count: u64) -> PageRun {
    PageRun::new(PageIndex::new(start), count).unwrap()
}

fn fault(core: &mut Core, page: u64) {
    let mut batch = Batch::default();
    batch.fault(Fault {
        page: PageIndex::new(page),
        thread: 9,
    });
    core.apply(&batch, Duration::from_secs(page));
}

fn remove(core: &mut Core, start: u64, count: u64) {
    let mut batch = Batch::default();
    batch.removal(run(start, count));
    core.apply(&batch, Duration::ZERO);
}

#[track_caller]
fn fetch(core: &mut Core) -> Ticket {
    match core.next_task() {
        Some(Task::Fetch { ticket, .. }) => ticket,
        other => panic!("nothing is to be fetched: {other:?}"),
    }
}

#[track_caller]
fn settle(core: &mut Core) -> Ticket {
    match core.next_task() {
        Some(Task::Settle { ticket }) => ticket,
        other => panic!("nothing is to be settled: {other:?}"),
    }
}

/// The next steps of a job are these, answered so.
#[track_caller]
fn check(core: &mut Core, ticket: &Ticket, steps: &[(Step, Answer)]) {
    for (step, answer) in steps {
        assert_eq!(core.step(ticket), *step);
        core.answered(ticket, *step, *answer);
    }
    assert_eq!(core.step(ticket), Step::Done);
}

fn notices(core: &mut Core) -> Vec<Notice> {
    std::iter::from_fn(|| core.notice()).collect()
}

const SOURCE_FAILED: Notice = Notice::Failed {
    block: BlockIndex::new(0),
    cause: Cause::Source,
    is_poisoned: true,
};

#[test]
fn one_block_is_fetched_once_for_all_who_wait() {
    let mut core = core(2);
    for page in [3, 4, 4, 15] {
        fault(&mut core, page);
    }
    assert_eq!(
        core.waiting().collect::<Vec<_>>(),
        [(BlockIndex::new(0), Duration::from_secs(3), 9)]
    );
    let ticket = fetch(&mut core);
    assert_eq!(core.next_task(), None);
    core.fetched(&ticket, Some(Content::Data));
    check(&mut core, &ticket, &[(Step::Copy(run(0, 16)), Answer::All)]);
    assert_eq!((core.waiting().count(), core.counts().repeated), (0, 3));
}

#[test]
fn pages_that_are_there_are_gone_round_and_who_waits_in_them_is_woken() {
    let mut core = core(1);
    fault(&mut core, 5);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Data));
    check(
        &mut core,
        &ticket,
        &[
            (Step::Copy(run(0, 16)), Answer::Part(5)),
            (Step::Copy(run(5, 11)), Answer::Present),
            (Step::Copy(run(6, 10)), Answer::All),
            (Step::Wake(run(5, 1)), Answer::All),
        ],
    );
    assert_eq!(notices(&mut core), [Notice::Complete]);
}

#[test]
fn while_memory_is_changing_events_are_read_and_what_was_removed_is_not_filled() {
    let mut core = core(1);
    fault(&mut core, 0);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Data));
    let step = core.step(&ticket);
    core.answered(&ticket, step, Answer::Changing);
    assert_eq!(core.step(&ticket), Step::ReadEvents);
    remove(&mut core, 4, 4);
    check(
        &mut core,
        &ticket,
        &[
            (Step::Copy(run(0, 4)), Answer::All),
            (Step::Copy(run(8, 8)), Answer::All),
        ],
    );
    fault(&mut core, 6);
    let ticket = settle(&mut core);
    check(&mut core, &ticket, &[(Step::Zero(run(6, 1)), Answer::All)]);
}

#[test]
fn who_waits_in_a_page_when_it_is_removed_gets_zeros() {
    let mut core = core(1);
    fault(&mut core, 2);
    let ticket = fetch(&mut core);
    remove(&mut core, 0, 16);
    core.fetched(&ticket, Some(Content::Data));
    check(&mut core, &ticket, &[(Step::Zero(run(2, 1)), Answer::All)]);
    assert_eq!(
        notices(&mut core),
        [Notice::Complete],
        "nothing is left to fetch"
    );
}

#[test]
fn a_fault_in_a_removed_page_needs_no_source() {
    let mut core = core(1);
    remove(&mut core, 1, 1);
    fault(&mut core, 1);
    let ticket = settle(&mut core);
    check(&mut core, &ticket, &[(Step::Zero(run(1, 1)), Answer::All)]);
    assert_eq!(core.origin(PageIndex::new(1)), Some(PageOrigin::Memory));
    assert_eq!(core.origin(PageIndex::new(0)), Some(PageOrigin::Source));
    assert_eq!(core.origin(PageIndex::new(16)), None);
}

#[test]
fn a_repeated_event_wakes_and_fills_nothing() {
    let mut core = core(1);
    fault(&mut core, 3);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Data));
    check(&mut core, &ticket, &[(Step::Copy(run(0, 16)), Answer::All)]);
    notices(&mut core);
    fault(&mut core, 3);
    let ticket = settle(&mut core);
    // What is there cannot be poisoned.
    check(
        &mut core,
        &ticket,
        &[
            (Step::Poison(run(3, 1)), Answer::Present),
            (Step::Wake(run(3, 1)), Answer::All),
        ],
    );
    assert_eq!(notices(&mut core), []);
}

#[test]
fn a_page_that_has_vanished_fails_and_is_not_read_from_the_source_again() {
    let mut core = core(1);
    fault(&mut core, 3);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Data));
    check(&mut core, &ticket, &[(Step::Copy(run(0, 16)), Answer::All)]);
    notices(&mut core);
    fault(&mut core, 3);
    let ticket = settle(&mut core);
    check(
        &mut core,
        &ticket,
        &[
            (Step::Poison(run(3, 1)), Answer::All),
            (Step::Poison(run(0, 3)), Answer::Present),
            (Step::Poison(run(1, 2)), Answer::Present),
            (Step::Poison(run(2, 1)), Answer::Present),
            (Step::Poison(run(4, 12)), Answer::Part(12)),
        ],
    );
    assert!(matches!(
        notices(&mut core)[..],
        [Notice::Failed {
            cause: Cause::Vanished,
            is_poisoned: true,
            ..
        }]
    ));
}

#[test]
fn a_block_that_cannot_be_had_is_poisoned_and_named() {
    let mut core = core(2);
    fault(&mut core, 7);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, None);
    check(
        &mut core,
        &ticket,
        &[(Step::Poison(run(0, 16)), Answer::All)],
    );
    assert_eq!(notices(&mut core), [SOURCE_FAILED]);
    assert_eq!(core.failed().collect::<Vec<_>>(), [BlockIndex::new(0)]);
    assert!(core.is_failed(PageIndex::new(7)) && !core.is_failed(PageIndex::new(16)));
    assert_eq!(core.origin(PageIndex::new(7)), Some(PageOrigin::Failed));
    // The guest gives one of its pages up: that one reads as zeros from then on.
    remove(&mut core, 7, 1);
    assert!(!core.is_failed(PageIndex::new(7)));
    fault(&mut core, 7);
    let ticket = settle(&mut core);
    check(&mut core, &ticket, &[(Step::Zero(run(7, 1)), Answer::All)]);
}

#[test]
fn without_poison_who_waits_for_a_failed_block_sleeps_on_and_is_named() {
    let mut core = core_with(Poisoning::Missing, 1);
    fault(&mut core, 7);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, None);
    check(&mut core, &ticket, &[]);
    assert!(matches!(
        notices(&mut core)[..],
        [
            Notice::Failed {
                is_poisoned: false,
                ..
            },
            Notice::Complete
        ]
    ));
    fault(&mut core, 7);
    fault(&mut core, 8);
    assert_eq!((core.next_task(), core.waiting().count()), (None, 1));
    remove(&mut core, 8, 1);
    let ticket = settle(&mut core);
    check(&mut core, &ticket, &[(Step::Zero(run(8, 1)), Answer::All)]);
    assert_eq!((core.next_task(), core.waiting().count()), (None, 1));
}

#[test]
fn a_failure_in_the_background_is_said_and_the_block_is_asked_for_again_when_it_is_needed() {
    let mut core = core(1);
    core.prefetch([(BlockIndex::new(0), 9)], Depth::Install);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, None);
    check(&mut core, &ticket, &[]);
    let block = BlockIndex::new(0);
    assert_eq!(notices(&mut core), [Notice::NotFetched { block }]);
    assert_eq!(core.background_bytes(), ByteLen::ZERO);
    fault(&mut core, 0);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Zero));
    check(&mut core, &ticket, &[(Step::Zero(run(0, 16)), Answer::All)]);
}

#[test]
fn a_source_that_fails_for_pages_that_were_removed_meanwhile_fails_nobody() {
    let mut core = core(1);
    fault(&mut core, 4);
    let ticket = fetch(&mut core);
    remove(&mut core, 4, 1);
    core.fetched(&ticket, None);
    check(&mut core, &ticket, &[(Step::Zero(run(4, 1)), Answer::All)]);
    let block = BlockIndex::new(0);
    assert_eq!(notices(&mut core), [Notice::NotFetched { block }]);
    assert!(!core.is_failed(PageIndex::new(0)));
}

#[test]
fn a_fault_takes_over_what_was_fetched_in_the_background() {
    let mut core = core(1);
    core.prefetch([(BlockIndex::new(0), 1)], Depth::Fetch);
    let ticket = fetch(&mut core);
    fault(&mut core, 0);
    assert_eq!(
        (core.next_task(), core.background_bytes()),
        (None, ByteLen::ZERO)
    );
    core.fetched(&ticket, Some(Content::Data));
    check(&mut core, &ticket, &[(Step::Copy(run(0, 16)), Answer::All)]);
}

#[test]
fn what_is_only_fetched_is_not_in_memory() {
    let mut core = core(1);
    core.prefetch([(BlockIndex::new(0), 1)], Depth::Fetch);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Data));
    check(&mut core, &ticket, &[]);
    assert_eq!(
        (core.remaining(), core.background_bytes()),
        (1, ByteLen::ZERO)
    );
}

#[test]
fn a_call_that_fails_fails_the_block() {
    let mut core = core(1);
    fault(&mut core, 0);
    let ticket = fetch(&mut core);
    core.fetched(&ticket, Some(Content::Data));
    check(
        &mut core,
        &ticket,
        &[
            (Step::Copy(run(0, 16)), Answer::Part(2)),
            (Step::Copy(run(2, 14)), Answer::Failed(12)),
            (Step::Poison(run(2, 14)), Answer::All),
        ],
    );
    let failed = notices(&mut core);
    assert!(
        matches!(
            failed[0],
            Notice::Failed {
                cause: Cause::Kernel(12),
                ..
            }
        ),
        "{failed:?}"
    );
}

#[test]
fn when_the_process_is_gone_all_ends() {
    let mut core = core(4);
    fault(&mut core, 0);
    fault(&mut core, 16);
    let (first, second) = (fetch(&mut core), fetch(&mut core));
    core.fetched(&first, Some(Content::Data));
    let step = core.step(&first);
    core.answered(&first, step, Answer::ProcessGone);
    core.fetched(&second, Some(Content::Data));
    fault(&mut core, 32);
    assert_eq!(
        (core.step(&first), core.step(&second)),
        (Step::Done, Step::Done)
    );
    assert_eq!(core.next_task(), None);
    assert_eq!(notices(&mut core), [Notice::ProcessGone]);
}

#[test]
fn filling_up_takes_what_it_is_allowed_and_ends() {
    let mut core = core(3);
    assert_eq!(core.next_task(), None, "not before it is allowed");
    core.allow_fill(ByteLen::new(1 << 16));
    fill_one(&mut core);
    assert_eq!(core.next_task(), None);
    core.allow_fill(ByteLen::new(u64::MAX));
    fill_one(&mut core);
    fill_one(&mut core);
    assert_eq!((core.next_task(), core.remaining()), (None, 0));
    assert_eq!(notices(&mut core), [Notice::Complete]);
    assert_eq!(core.counts().filled, 3);
}

fn fill_one(core: &mut Core) {
    let ticket = fetch(core);
    core.fetched(&ticket, Some(Content::Data));
    let step = core.step(&ticket);
    core.answered(&ticket, step, Answer::All);
    assert_eq!(core.step(&ticket), Step::Done);
}

#[test]
fn faults_outside_of_memory_are_passed_over() {
    let mut core = core(1);
    fault(&mut core, 16);
    fault(&mut core, u64::MAX);
    remove(&mut core, 16, 1 << 40);
    assert_eq!((core.next_task(), core.waiting().count()), (None, 0));
}
