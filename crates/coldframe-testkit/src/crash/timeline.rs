//! What was promised, and what was begun, at each moment of a run.

/// Models of a run, each from a moment on.
///
/// A model is noted twice for each step: before it, with what the step may have done from now on,
/// and after it, with what it has acknowledged.
#[derive(Clone, Debug)]
pub struct Timeline<M>(Vec<(usize, M)>);

impl<M: Clone> Timeline<M> {
    /// A run that begins with this.
    #[must_use]
    pub fn new(first: M) -> Self {
        Self(vec![(0, first)])
    }

    /// From `moment` on this holds.
    pub fn note(&mut self, moment: usize, model: M) {
        self.0.push((moment, model));
    }

    /// The last model.
    ///
    /// # Panics
    /// Never: there is a first.
    #[must_use]
    pub fn last(&self) -> M {
        self.0.last().expect("there is a first").1.clone()
    }

    /// What held last at `moment`: its promises must be kept after a cut there.
    #[must_use]
    pub fn promised(&self, moment: usize) -> &M {
        let before = self.0.iter().rfind(|(at, _)| *at <= moment);
        &before.unwrap_or(&self.0[0]).1
    }

    /// What may hold after a cut at `moment`: all that was begun by then.
    #[must_use]
    pub fn begun(&self, moment: usize) -> &M {
        let behind = self.0.iter().find(|(at, _)| *at >= moment);
        behind.map_or_else(|| self.promised(moment), |(_, model)| model)
    }
}
