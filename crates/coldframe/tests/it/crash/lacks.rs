//! A host that lacks one feature, under every verb: it does its work or says in one line what is
//! missing, and what was there is there. `poor.rs` looks closer, at fewer verbs.

use std::cell::OnceCell;
use std::fmt;

use coldframe_testkit::cases::{explore, planted};
use coldframe_testkit::crash::{SEED, setting};
use coldframe_testkit::poor_host::{Lack, PoorHost};
use coldframe_testkit::rng::Rng;

use super::Scene;
use super::verbs::{VERBS, Verb};
use crate::poor::{Cost, cost};
use crate::support::Outcome;

/// Cases that `cargo test` draws.
const CASES: usize = 40;

/// A verb on a host that lacks something.
struct Case {
    lack: Lack,
    verb: &'static Verb,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.lack, self.verb.words)
    }
}

impl Case {
    fn all(lacks: &[Lack]) -> Vec<Self> {
        let of = |lack: &Lack| {
            let lack = *lack;
            VERBS.iter().map(move |verb| Self { lack, verb })
        };
        lacks.iter().flat_map(of).collect()
    }

    #[track_caller]
    fn judge(&self, outcome: &Outcome) {
        assert!(outcome.stderr.lines().count() <= 1, "{outcome:#?}");
        if self.verb.is_refused {
            assert!(matches!(outcome.code, 1..=3), "not refused: {outcome:#?}");
            return;
        }
        let words = match cost(self.lack) {
            Cost::Nothing => "",
            Cost::Writers(words) | Cost::Snapshots(words) | Cost::All(words) => words,
        };
        // A socket that others may connect to is not listened on.
        let is_socket = self.lack == Lack::Chmod && outcome.stderr.contains("cannot listen");
        let is_told = !words.is_empty() && outcome.stderr.contains(words);
        if outcome.code != 0 {
            assert!(matches!(outcome.code, 1 | 3), "{outcome:#?}");
            assert!(is_told || is_socket, "not told: {outcome:#?}");
        }
    }
}

/// What is there before is made once, on the host as it is.
fn checker(host: &'static PoorHost) -> impl Fn(&Case) {
    let scene = OnceCell::new();
    move |case| {
        let make = || Scene::new(&mut Rng::new(setting(SEED, 1)));
        let scene: &Scene = scene.get_or_init(make);
        let place = scene.copy();
        let spoil = &mut |command: &mut std::process::Command| host.without(case.lack, command);
        let outcome = case.verb.run(scene, &place, spoil);
        case.judge(&outcome);
        scene.check_whole(case.verb, &place, outcome.code);
    }
}

#[test]
fn whatever_the_host_lacks_every_verb_works_or_says_so() {
    let Some(host) = PoorHost::get() else { return };
    let cases = Case::all(&Lack::ALL);
    explore("command: poor host", CASES, &cases, &checker(host));
}

/// A directory whose sync fails is no lack that a verb gets along with.
#[test]
fn planted_a_sync_that_fails_is_found_under_the_verbs() {
    let Some(host) = PoorHost::get() else { return };
    let mut cases = Case::all(&[Lack::SoundDirectorySync]);
    cases.retain(|case| case.verb.words.starts_with("export raw"));
    let text = planted("command: a sync that fails", &cases, &checker(host));
    assert!(text.contains("not told"), "{text}");
}
