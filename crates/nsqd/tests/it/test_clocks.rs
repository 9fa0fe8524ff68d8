//! Clocks that show what the test says.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use nsqd::{Clocks, World};
use tokio::sync::watch;

/// The clocks of a machine on which no time passes but by [`TestClocks::pass`]. Clones show the same.
///
/// They count delays and timeouts. The background work of topics, heartbeats and sockets go by real time.
#[derive(Clone, Debug)]
pub(crate) struct TestClocks(Arc<watch::Sender<Times>>);

#[derive(Copy, Clone, Debug)]
struct Times {
    boot: u8,
    since_boot: Duration,
    wall: Duration,
    monotonic: Instant,
}

impl Default for TestClocks {
    #[expect(clippy::disallowed_methods, reason = "an instant cannot be made in another way")]
    fn default() -> Self {
        let times = Times {
            boot: 1,
            since_boot: Duration::from_secs(1000),
            wall: Duration::from_secs(1_700_000_000),
            monotonic: Instant::now(),
        };
        Self(Arc::new(watch::Sender::new(times)))
    }
}

impl TestClocks {
    pub(crate) fn set_wall(&self, wall: Duration) {
        self.0.send_modify(|times| times.wall = wall);
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.0.send_modify(|times| {
            times.wall += time;
            times.since_boot += time;
            times.monotonic += time;
        });
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// Boots the machine again.
    pub(crate) fn boot(&self) {
        self.0.send_modify(|times| {
            times.boot += 1;
            times.since_boot = Duration::ZERO;
        });
    }

    /// The real disk, by these clocks.
    pub(crate) fn world(&self) -> World {
        World { clocks: Arc::new(self.clone()), ..World::default() }
    }
}

impl Clocks for TestClocks {
    fn boot_id(&self) -> [u8; 16] {
        [self.0.borrow().boot; 16]
    }

    fn since_boot(&self) -> Duration {
        self.0.borrow().since_boot
    }

    fn wall(&self) -> Duration {
        self.0.borrow().wall
    }

    fn monotonic(&self) -> Instant {
        self.0.borrow().monotonic
    }

    fn reached(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut times = self.0.subscribe();
            times.wait_for(|times| times.monotonic >= at).await.expect("the sender is here");
        })
    }
}
