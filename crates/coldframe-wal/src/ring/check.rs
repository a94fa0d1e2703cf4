//! What is wrong with a log, and what a repair would do. Nothing is written here.

use coldframe_storage::Storage;
use coldframe_units::FileOffset;
use coldframe_walframe::ring::{End, Place, Step};

use crate::ring::window::Window;
use crate::ring::{Owner, RingError, RingReader, Sequence, SlotState};

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// One of the two control blocks does not hold; the other one does. A repair writes it anew.
    ControlSlot {
        /// Which one, 0 or 1.
        slot: u8,
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
    },
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
            Self::GivenUp { .. } => "given-up",
            Self::NotClosed { .. } => "not-closed",
        }
    }

    /// Whether something that was acknowledged is missing, newly.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damage { .. })
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
    pub epoch: u32,
}

impl Plan {
    /// Whether there is nothing that a repair would write.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let slot = |finding: &Finding| matches!(finding, Finding::ControlSlot { .. });
        self.gaps.is_empty() && !self.findings.iter().any(slot)
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
        };
        for (slot, state) in (0..).zip(recovery.slots) {
            if state != SlotState::Current {
                plan.findings.push(Finding::ControlSlot { slot, state });
            }
        }
        self.check_records(&mut plan)?;
        if let Some(owner) = recovery.left_by.clone() {
            plan.findings.push(Finding::NotClosed { owner });
        }
        Ok(plan)
    }

    fn check_records(&self, plan: &mut Plan) -> Result<(), RingError> {
        let control = self.chosen.control;
        let mut window = Window::new(&self.storage, self.region, control.geometry());
        let mut scan = control.scan();
        loop {
            let step = scan.step(&mut window);
            match step.map_err(|source| RingError::Read { source })? {
                Step::Record(_) => plan.records += 1,
                Step::Gap(gap) => plan.findings.push(Finding::GivenUp {
                    offset: self.file_offset(gap.position),
                    first: Sequence::new(gap.sequence),
                    count: gap.lost,
                }),
                Step::End(End::Corrupt {
                    position,
                    sequence,
                    next,
                    ..
                }) => {
                    let synced = control.synced_sequence.checked_sub(sequence);
                    let to_next = next.map(|next| next.sequence - sequence);
                    let lost = to_next.or(synced.map(|more| more + 1));
                    let current = sequence >= control.resume_sequence;
                    let earlier = if current { control.epoch } else { scan.epoch() };
                    plan.gaps.push(PlannedGap {
                        position,
                        sequence,
                        lost,
                        next,
                        epoch: next.map_or(earlier, |next| next.epoch),
                    });
                    plan.findings.push(Finding::Damage {
                        offset: self.file_offset(position),
                        first: Sequence::new(sequence),
                        count: lost,
                    });
                    match next {
                        Some(next) => scan.resume_at(next),
                        None => return Ok(()),
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
                    return Ok(());
                }
                Step::End(End::Clean { .. }) => return Ok(()),
            }
        }
    }
}
