//! Discovery of nsqds: all nsqlookupds are asked every `lookupd_poll_interval`, and soon after a connection is lost.
//! The consumer connects to every nsqd that any of them knows.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    select,
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    engine::{Engine, FirstAttempt},
    event::Event,
};
use crate::{
    error::{DisconnectLookupdError, DiscoveryError},
    lookup::{Discovered, Lookupd, lookup},
    random::random_part,
    retry::Retries,
    sync::lock,
};

/// After this long without a query, the next recheck has the shortest delay again.
const CALM_AFTER: Duration = Duration::from_secs(10);

/// The most nsqds that discovery adds to.
const NSQDS_MAX: usize = 1024;
/// The most discovered nsqds that are being dialed at a time.
const DIALS_MAX: usize = 16;

/// A filter for the nsqds that were found.
pub(crate) type DiscoveryFilter = Box<dyn Fn(Vec<Discovered>) -> Vec<Discovered> + Send + Sync>;

/// The nsqlookupds of a consumer.
pub(crate) struct Discovery {
    lookupds: Mutex<Vec<Lookupd>>,
    filter: Option<DiscoveryFilter>,
    /// Requests a query before the next poll.
    recheck: Notify,
    /// Permits to connect to discovered nsqds.
    pub(super) dials: Semaphore,
}

impl Discovery {
    pub(crate) fn new(filter: Option<DiscoveryFilter>) -> Self {
        Self {
            lookupds: Mutex::default(),
            filter,
            recheck: Notify::new(),
            dials: Semaphore::new(DIALS_MAX),
        }
    }

    /// Requests a query soon. Several requests count as one.
    pub(crate) fn recheck(&self) {
        self.recheck.notify_one();
    }

    /// Stops asking `lookupd`.
    pub(crate) fn remove(&self, lookupd: &Lookupd) -> Result<(), DisconnectLookupdError> {
        let mut lookupds = lock(&self.lookupds);
        let Some(position) = lookupds.iter().position(|known| known == lookupd) else {
            return Err(DisconnectLookupdError::NotConnected(lookupd.authority.clone()));
        };
        if lookupds.len() == 1 {
            return Err(DisconnectLookupdError::OnlyOne(lookupd.authority.clone()));
        }
        lookupds.remove(position);
        Ok(())
    }

    /// Adds the nsqlookupds that are not known yet. Returns those, and whether none was known before.
    fn add(&self, lookupds: Vec<Lookupd>) -> (Vec<Lookupd>, bool) {
        let mut known = lock(&self.lookupds);
        let was_empty = known.is_empty();
        let mut added = Vec::new();
        for lookupd in lookupds {
            if !known.contains(&lookupd) {
                known.push(lookupd.clone());
                added.push(lookupd);
            }
        }
        (added, was_empty)
    }
}

/// Adds `lookupds`. Returns when the new ones have been asked once and the first attempts to connect to the nsqds they
/// know have completed.
pub(crate) async fn discover(
    engine: &Arc<Engine>,
    lookupds: Vec<Lookupd>,
) -> Result<(), DiscoveryError> {
    engine.accepts_lookupds()?;
    let (added, was_empty) = engine.discovery.add(lookupds);
    if was_empty && !added.is_empty() {
        engine.spawn_background(poll_lookupds(Arc::clone(engine)))?;
    }
    let asked = async {
        let round = ask(engine, added).await;
        if !round.answered {
            engine.discovery.recheck();
        }
        for attempt in round.attempts {
            // The result is logged and reported as an event.
            let _ = attempt.await;
        }
    };
    let mut stopped = engine.stopped();
    select! {
        biased;
        () = asked => Ok(()),
        _ = stopped.wait_for(Option::is_some) => Err(DiscoveryError::Stopped),
    }
}

/// Asks all nsqlookupds again and again.
async fn poll_lookupds(engine: Arc<Engine>) {
    let interval = engine.config.lookupd_poll_interval;
    let mut retries = Retries::up_to(interval);
    let mut pause = interval + random_part(interval.mul_f64(engine.config.lookupd_poll_jitter));
    loop {
        let since = Instant::now();
        select! {
            () = sleep(pause) => {}
            () = engine.discovery.recheck.notified() => {
                if since.elapsed() >= CALM_AFTER {
                    retries.restart();
                }
                // Connections may be lost as fast as they are made; queries must not become a hot loop.
                sleep(retries.next_delay()).await;
            }
        }
        let lookupds = lock(&engine.discovery.lookupds).clone();
        let asked = lookupds.len();
        let round = ask(&engine, lookupds).await;
        if round.answered {
            if lock(&engine.discovery.lookupds).len() == asked {
                engine.forget_vanished(&round.found);
            }
            pause = interval;
        } else {
            pause = retries.next_delay();
        }
    }
}

/// The result of asking several nsqlookupds once.
struct Round {
    found: HashSet<String>,
    /// At least one of them answered.
    answered: bool,
    attempts: Vec<FirstAttempt>,
}

/// Asks all `lookupds` at once, and starts to connect to the nsqds that each of them knows as soon as it answers.
async fn ask(engine: &Arc<Engine>, lookupds: Vec<Lookupd>) -> Round {
    let mut round = Round { found: HashSet::new(), answered: false, attempts: Vec::new() };
    let mut queries = JoinSet::new();
    for lookupd in lookupds {
        let engine = Arc::clone(engine);
        queries.spawn(async move {
            let answer = lookup(&lookupd, &engine.config).await;
            (lookupd, answer)
        });
    }
    while let Some(query) = queries.join_next().await {
        let Ok((lookupd, answer)) = query else { continue };
        match answer {
            Ok(nsqds) => {
                round.answered |= round.take(engine, nsqds);
            }
            Err(error) => {
                tracing::warn!(nsqlookupd = lookupd.authority, %error, "lookup failed");
                let nsqlookupd = lookupd.authority;
                engine.events.emit(|| Event::LookupFailed { nsqlookupd, error });
            }
        }
    }
    round
}

impl Round {
    /// Starts to connect to `nsqds`. Returns false if the filter failed.
    fn take(&mut self, engine: &Arc<Engine>, nsqds: Vec<Discovered>) -> bool {
        let nsqds = match &engine.discovery.filter {
            Some(filter) => match catch_unwind(AssertUnwindSafe(|| filter(nsqds))) {
                Ok(nsqds) => nsqds,
                Err(_) => {
                    tracing::error!("the discovery filter panicked; ignoring these nsqds");
                    return false;
                }
            },
            None => nsqds,
        };
        let (before, mut left_out) = (self.attempts.len(), 0_usize);
        for nsqd in nsqds {
            if engine.nsqd_count() < NSQDS_MAX {
                self.attempts.extend(engine.link_discovered(&nsqd.address));
            } else if !engine.keeps(&nsqd.address) {
                left_out += 1;
            }
            self.found.insert(nsqd.address);
        }
        let (topic, channel) = (&engine.topic, &engine.channel);
        let added = self.attempts.len() - before;
        if added > 0 {
            tracing::info!(%topic, %channel, nsqds = added, "discovered");
        }
        if left_out > 0 {
            tracing::warn!(%topic, %channel, nsqds = left_out, max = NSQDS_MAX, "too many nsqds discovered; ignoring the others");
        }
        true
    }
}
