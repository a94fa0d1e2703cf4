//! Ordering rules of hypervisors, one row each.

/// How a rule shows itself when it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// `then` is refused until `first` was done.
    Refused,
    /// Doing `first` after `then` silently undoes `then`.
    Undone,
    /// `first` is refused for ever once `then` was done.
    Closed,
}

/// `first` must come before `then`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<O> {
    /// Its name.
    pub name: &'static str,
    /// What comes first.
    pub first: O,
    /// What comes then.
    pub then: O,
    /// What happens otherwise.
    pub breach: Breach,
}

/// A rule by which `then` is refused until `first` was done.
#[must_use]
pub const fn refused<O>(name: &'static str, first: O, then: O) -> Rule<O> {
    rule(name, first, then, Breach::Refused)
}

/// A rule by which doing `first` after `then` silently undoes `then`.
#[must_use]
pub const fn undone<O>(name: &'static str, first: O, then: O) -> Rule<O> {
    rule(name, first, then, Breach::Undone)
}

/// A rule by which `first` is refused for ever once `then` was done.
#[must_use]
pub const fn closed<O>(name: &'static str, first: O, then: O) -> Rule<O> {
    rule(name, first, then, Breach::Closed)
}

const fn rule<O>(name: &'static str, first: O, then: O, breach: Breach) -> Rule<O> {
    Rule {
        name,
        first,
        then,
        breach,
    }
}
