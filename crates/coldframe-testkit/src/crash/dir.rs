//! A directory of crash files: names are lost and kept on their own terms.
//!
//! The model is that of a journalling file system: names change in order, so that a power cut
//! leaves the first few changes since the last sync of the directory, whatever the files hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::crash::CrashStorage;
use crate::rng::Rng;

type Names = BTreeMap<String, Arc<CrashStorage>>;

/// A directory whose files are [`CrashStorage`].
#[derive(Debug, Default)]
pub struct CrashDir(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The names after each change since the last sync; the first entry is durable.
    since_sync: Vec<Names>,
}

impl State {
    fn now(&self) -> Names {
        self.since_sync.last().cloned().unwrap_or_default()
    }
}

impl CrashDir {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty file; one of that name is replaced.
    pub fn create(&self, name: &str) -> Arc<CrashStorage> {
        let file = Arc::new(CrashStorage::new(Vec::new()));
        let made = Arc::clone(&file);
        self.change(|names| {
            names.insert(name.to_owned(), made);
        });
        file
    }

    /// Gives a file another name, in place of what has that name.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn rename(&self, from: &str, to: &str) {
        self.change(|names| {
            let file = names.remove(from).expect("the file that is renamed exists");
            names.insert(to.to_owned(), file);
        });
    }

    /// Takes a name away.
    pub fn remove(&self, name: &str) {
        self.change(|names| {
            names.remove(name);
        });
    }

    /// Makes all names durable; not what the files hold.
    pub fn sync_dir(&self) {
        let mut state = self.state();
        let now = state.now();
        state.since_sync = vec![now];
    }

    /// The file of a name.
    #[must_use]
    pub fn open(&self, name: &str) -> Option<Arc<CrashStorage>> {
        self.state().now().get(name).cloned()
    }

    /// What a power cut now may leave: each prefix of the name changes, with `budget` contents
    /// of the files each.
    #[must_use]
    pub fn crash_states(
        &self,
        sector: usize,
        seed: u64,
        budget: usize,
    ) -> Vec<BTreeMap<String, Vec<u8>>> {
        let mut variants = self.state().since_sync.clone();
        if variants.is_empty() {
            variants.push(Names::new());
        }
        let mut rng = Rng::new(seed);
        let mut states = Vec::new();
        for names in &variants {
            let contents: BTreeMap<&String, Vec<Vec<u8>>> = names
                .iter()
                .map(|(name, file)| {
                    let states = file.crash_states(sector, rng.next_u64(), budget);
                    (name, states.collect())
                })
                .collect();
            for round in 0..budget {
                // The first rounds pair the extremes of all files; later ones mix.
                let pick = |images: &Vec<Vec<u8>>, rng: &mut Rng| {
                    let index = if round < 6 {
                        round
                    } else {
                        usize::try_from(rng.next_u64() >> 1).unwrap_or(0)
                    };
                    images[index % images.len()].clone()
                };
                let state = contents
                    .iter()
                    .map(|(name, images)| ((*name).clone(), pick(images, &mut rng)));
                states.push(state.collect());
            }
        }
        states
    }

    fn change(&self, change: impl FnOnce(&mut Names)) {
        let mut state = self.state();
        if state.since_sync.is_empty() {
            state.since_sync.push(Names::new());
        }
        let mut names = state.now();
        change(&mut names);
        state.since_sync.push(names);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
