//! The pause between two connections to an nsqlookupd.

use std::time::Duration;

/// The first pause; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long a connection has to last for the next pause to be the first one again. An nsqlookupd that answers and hangs
/// up would be connected to in a tight loop.
const STABLE: Duration = Duration::from_secs(60);

/// The pause before the next attempt to connect.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// The pause after an attempt whose connection lasted for so long, which is nothing if there was none.
    pub(super) fn after(&mut self, lasted: Duration) -> Duration {
        let pause = if lasted < STABLE { self.0 } else { PAUSE_MIN };
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_until_a_connection_has_lasted_for_a_minute() {
        let mut pause = Pause::new();
        let mut after = |seconds| pause.after(Duration::from_secs(seconds)).as_millis();
        let short: Vec<_> = [0, 59, 1, 0, 10, 0, 59, 0].map(&mut after).into();
        assert_eq!(short, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!([60, 0, 3600, 61, 0].map(after), [250, 500, 250, 250, 500]);
    }
}
