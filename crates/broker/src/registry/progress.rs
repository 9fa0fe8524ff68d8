//! Long changes in short steps.

use super::Registration;

/// The outcome of one step of a change. Call again until it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a change that is not done has to be continued"]
pub struct Progress {
    /// The registrations that this step has removed, channels of a topic before the topic.
    pub removed: Vec<Registration>,
    /// False while more is to be done.
    pub is_done: bool,
}

/// A step under way.
pub(super) struct Step {
    left: usize,
    removed: Vec<Registration>,
}

impl Step {
    /// A step that may remove `at_most` entries.
    pub(super) fn new(at_most: usize) -> Self {
        Self { left: at_most.max(1), removed: Vec::new() }
    }

    /// Takes one off the entries that the step may remove. Returns false when there are none left.
    pub(super) fn go_on(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    pub(super) fn report(&mut self, registration: Registration) {
        self.removed.push(registration);
    }

    /// The end of the step; `is_done` when the change is complete.
    pub(super) fn end(self, is_done: bool) -> Progress {
        Progress { removed: self.removed, is_done }
    }
}
