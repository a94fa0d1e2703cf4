//! What is wrong with a log, and what a repair would do. Nothing is written here.

use std::fmt;

use coldframe_storage::Storage;
use coldframe_units::FileOffset;
use coldframe_walframe::ring::{End, Place, RingSource as _, Scan, Step};

use crate::window::Window;
use crate::{Owner, RingError, RingReader, Sequence, SlotState, control};
use coldframe_storage::Unreadable;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// One of the two control blocks does not hold; the other one does. A repair writes it anew.
    ControlSlot {
        /// Which one, 0 or 1.
        slot: u8,
        /// Where it is in the file.
        offset: FileOffset,
        /// What it is.
        state: SlotState,
    },
    /// The end is torn: nothing that was acknowledged is missing. Opening the log drops it.
    TornTail {
        /// Where it begins in the file.
        offset: FileOffset,
        /// Bytes of the record that is not whole.
        bytes: u64,
        /// Sound records behind it, never acknowledged.
        dropped: u64,
    },
    /// Records that were durable are damaged. A repair gives them up, and keeps all sound ones.
    Damage {
        /// Where they begin in the file.
        offset: FileOffset,
        /// The first of them.
        first: Sequence,
        /// How many; `None` if that is not known, and they cannot be repaired.
        count: Option<u64>,
        /// Whether the host can read their bytes: else they are not repaired, as they may be
        /// whole where it can.
        readable: bool,
    },
    /// The host cannot read this stretch of the file; what records it hides is told beside it.
    Unreadable(Unreadable),
    /// An earlier repair gave these records up.
    GivenUp {
        /// Where they began in the file.
        offset: FileOffset,
        /// The first of them.
        first: Sequence,
        /// How many.
        count: u64,
    },
    /// Someone had the log open and did not close it.
    NotClosed {
        /// Who.
        owner: Owner,
    },
}

impl Finding {
    /// A short name that does not change: for scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ControlSlot { .. } => "control-slot",
            Self::TornTail { .. } => "torn-tail",
            Self::Damage { .. } => "damage",
            Self::Unreadable(_) => "unreadable",
            Self::GivenUp { .. } => "given-up",
            Self::NotClosed { .. } => "not-closed",
        }
    }

    /// Whether bytes that were durable once are not what was written, newly: those of records,
    /// or those of one control block (of which nothing is missing, for the other one holds).
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damage { .. }
                | Self::Unreadable(_)
                | Self::ControlSlot {
                    state: SlotState::Damaged(_),
                    ..
                }
        )
    }

    /// What becomes of it; `None` if nothing has to.
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::ControlSlot { .. } => Some("a repair writes it anew from the other"),
            Self::TornTail { .. } => Some("dropped when the log is opened for writing"),
            Self::Damage {
                count: Some(_),
                readable: true,
                ..
            } => Some("a repair makes it a gap; the sound records stay"),
            Self::Damage { .. } => {
                Some("cannot be repaired in place; the sound records can be dumped")
            }
            Self::Unreadable(_) => {
                Some("copy the file to a sound disk first, with ddrescue(1) say")
            }
            Self::GivenUp { .. } | Self::NotClosed { .. } => None,
        }
    }

    /// Where it is in the file, if it is in one place.
    #[must_use]
    pub const fn offset(&self) -> Option<FileOffset> {
        match self {
            Self::ControlSlot { offset, .. }
            | Self::TornTail { offset, .. }
            | Self::Damage { offset, .. }
            | Self::GivenUp { offset, .. } => Some(*offset),
            Self::Unreadable(stretch) => Some(stretch.offset),
            Self::NotClosed { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlSlot { slot, state, .. } => match state {
                SlotState::Damaged(error) => {
                    write!(
                        f,
                        "control block {slot} is damaged, the other one is sound: {error}"
                    )
                }
                SlotState::Older | SlotState::Current => {
                    write!(
                        f,
                        "control block {slot} is older than the other: an update was cut"
                    )
                }
            },
            Self::TornTail { bytes, dropped, .. } => {
                write!(f, "{bytes} bytes of a record that is not whole")?;
                match dropped {
                    0 => Ok(()),
                    1 => f.write_str(", and a record behind it that was not durable"),
                    dropped => write!(f, ", and {dropped} records behind it that were not durable"),
                }
            }
            Self::Damage {
                first,
                count,
                readable,
                ..
            } => {
                Lost(*first, *count).fmt(f)?;
                f.write_str(match (readable, count) {
                    (false, _) => " cannot be read",
                    (true, Some(0 | 1)) => " is damaged",
                    (true, _) => " are damaged",
                })
            }
            Self::Unreadable(stretch) => stretch.fmt(f),
            Self::GivenUp { first, count, .. } => {
                Lost(*first, Some(*count)).fmt(f)?;
                f.write_str(" given up by a repair")
            }
            Self::NotClosed { owner } => write!(f, "{owner} had the log open and did not close it"),
        }
    }
}

/// Records by number: `record 7`, `records 7 to 9`, `all records from 7 on`.
struct Lost(Sequence, Option<u64>);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, count) = self;
        match count {
            None => write!(f, "records from {first} on"),
            Some(0 | 1) => write!(f, "record {first}"),
            Some(count) => write!(f, "records {first} to {}", first.get() + (count - 1)),
        }
    }
}

/// What a check found, and what a repair would do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// All findings, in the order of the log.
    pub findings: Vec<Finding>,
    /// Sound records; a repair keeps them all.
    pub records: u64,
    pub(crate) gaps: Vec<PlannedGap>,
    pub(crate) generation: u64,
    pub(crate) gives_up_unreadable: bool,
}

/// The header that makes damage a gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlannedGap {
    pub position: u64,
    pub sequence: u64,
    /// `None` if nothing says how many are lost.
    pub lost: Option<u64>,
    /// Up to the next sound record, if there is one.
    pub next: Option<Place>,
    /// Whether all its bytes can be read.
    pub readable: bool,
    pub epoch: u32,
}

impl Plan {
    /// Whether there is nothing that a repair would write.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let slot = |finding: &Finding| matches!(finding, Finding::ControlSlot { .. });
        self.gaps.is_empty() && !self.findings.iter().any(slot)
    }

    /// The same plan, but records in bytes that the host cannot read are given up too: for a copy,
    /// or when no host will ever read them.
    #[must_use]
    pub fn giving_up_unreadable(self) -> Self {
        Self {
            gives_up_unreadable: true,
            ..self
        }
    }

    /// Whether a repair is possible in place: it gives up no record that only this host cannot
    /// read.
    #[must_use]
    pub fn is_repairable(&self) -> bool {
        let is_possible = |gap: &PlannedGap| match gap.readable {
            true => gap.lost.is_some(),
            false => self.gives_up_unreadable,
        };
        self.gaps.iter().all(is_possible)
    }
}

impl<S: Storage> RingReader<S> {
    /// Looks at everything, and plans a repair.
    ///
    /// Spec: RING-60
    ///
    /// # Errors
    /// [`RingError::Read`].
    pub fn check(&self) -> Result<Plan, RingError> {
        let recovery = self.recovery();
        let mut plan = Plan {
            findings: Vec::new(),
            records: 0,
            gaps: Vec::new(),
            generation: self.chosen.control.generation,
            gives_up_unreadable: false,
        };
        for (slot, state) in (0..).zip(recovery.slots) {
            if state != SlotState::Current {
                let offset = control::slot_offset(self.region, slot.into());
                plan.findings.push(Finding::ControlSlot {
                    slot,
                    offset,
                    state,
                });
            }
        }
        self.check_records(&mut plan)?;
        if let Some(owner) = recovery.left_by.clone() {
            plan.findings.push(Finding::NotClosed { owner });
        }
        Ok(plan)
    }

    fn check_records(&self, plan: &mut Plan) -> Result<(), RingError> {
        let mut window = self.window();
        let mut scan = self.chosen.control.scan();
        loop {
            let step = scan.step(&mut window);
            match step.map_err(|source| RingError::Read { source })? {
                Step::Record(_) => plan.records += 1,
                Step::Gap(gap) => plan.findings.push(Finding::GivenUp {
                    offset: self.file_offset(gap.position),
                    first: Sequence::new(gap.sequence),
                    count: gap.lost,
                }),
                Step::End(end @ End::Corrupt { next, .. }) => {
                    if let Some(gap) = self.gap_of(end, &scan, &window) {
                        plan.findings.push(Finding::Damage {
                            offset: self.file_offset(gap.position),
                            first: Sequence::new(gap.sequence),
                            count: gap.lost,
                            readable: gap.readable,
                        });
                        plan.gaps.push(gap);
                    }
                    match next {
                        Some(next) => scan.resume_at(next),
                        None => break,
                    }
                }
                Step::End(End::Torn {
                    position,
                    bytes,
                    dropped,
                }) => {
                    plan.findings.push(Finding::TornTail {
                        offset: self.file_offset(position),
                        bytes,
                        dropped,
                    });
                    break;
                }
                Step::End(End::Clean { .. }) => break,
            }
        }
        let unreadable = window.unreadable().iter().copied();
        plan.findings.extend(unreadable.map(Finding::Unreadable));
        Ok(())
    }

    fn gap_of(&self, end: End, scan: &Scan, window: &Window<&S>) -> Option<PlannedGap> {
        let End::Corrupt {
            position,
            sequence,
            next,
            ..
        } = end
        else {
            return None;
        };
        let control = self.chosen.control;
        let synced = control.synced_sequence.checked_sub(sequence);
        let to_next = next.map(|next| next.sequence - sequence);
        let current = sequence >= control.resume_sequence;
        let earlier = if current { control.epoch } else { scan.epoch() };
        let ring_end = control.tail_position + control.ring_len;
        let until = next.map_or(ring_end, |next| next.position);
        Some(PlannedGap {
            position,
            sequence,
            lost: to_next.or(synced.map(|more| more + 1)),
            next,
            readable: !window.is_unreadable(position, until - position),
            epoch: next.map_or(earlier, |next| next.epoch),
        })
    }
}
