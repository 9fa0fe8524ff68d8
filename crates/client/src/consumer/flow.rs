//! How many messages each connection may have in flight: `max_in_flight` shared out over the connections.

use std::sync::Arc;

use super::subscriber::Subscriber;

/// The subscribed connections and the RDY each was given.
pub(crate) struct Flow {
    max_in_flight: u32,
    shares: Vec<Share>,
}

struct Share {
    subscriber: Arc<Subscriber>,
    rdy: u32,
}

impl Flow {
    pub(crate) fn new(max_in_flight: u32) -> Self {
        Self { max_in_flight, shares: Vec::new() }
    }

    pub(crate) fn subscribers(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.shares.iter().map(|share| &share.subscriber)
    }

    pub(crate) fn len(&self) -> usize {
        self.shares.len()
    }

    pub(crate) fn change_max_in_flight(&mut self, max_in_flight: u32) {
        self.max_in_flight = max_in_flight;
        self.share_out();
    }

    pub(crate) fn add(&mut self, subscriber: Arc<Subscriber>) {
        if self.max_in_flight > subscriber.rdy_count_max() {
            tracing::warn!(
                nsqd = subscriber.address(),
                max_rdy_count = subscriber.rdy_count_max(),
                max_in_flight = self.max_in_flight,
                "max_in_flight is over what nsqd allows one connection"
            );
        }
        self.shares.push(Share { subscriber, rdy: 0 });
        self.share_out();
    }

    /// Takes a connection out, whether it has ended or is closing.
    pub(crate) fn remove(&mut self, subscriber: &Arc<Subscriber>) {
        self.shares.retain(|share| !Arc::ptr_eq(&share.subscriber, subscriber));
        self.share_out();
    }

    /// Takes all connections out, which are to be closed.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Subscriber>> {
        self.shares.drain(..).map(|share| share.subscriber)
    }

    /// Whether a connection has nearly all messages in flight that it may have, so that more may be waiting.
    pub(crate) fn is_starved(&self) -> bool {
        self.shares.iter().any(|share| {
            let in_flight = share.subscriber.counts().in_flight();
            in_flight > 0 && in_flight >= u64::from(share.rdy) * 85 / 100
        })
    }

    /// Tells every connection whose share has changed; those that get less first, so that the sum never exceeds
    /// `max_in_flight` on the way.
    fn share_out(&mut self) {
        let limits: Vec<_> =
            self.shares.iter().map(|share| share.subscriber.rdy_count_max()).collect();
        let targets = shares(self.max_in_flight, &limits);
        for lowering in [true, false] {
            for (share, &target) in self.shares.iter_mut().zip(&targets) {
                if share.rdy != target && (target < share.rdy) == lowering {
                    share.rdy = target;
                    share.subscriber.ready(target);
                    tracing::debug!(nsqd = share.subscriber.address(), rdy = target, "RDY");
                }
            }
        }
    }
}

/// `total` in as even parts as the limits allow; of equals, the earlier ones get the remainder.
fn shares(total: u32, limits: &[u32]) -> Vec<u32> {
    let mut by_limit: Vec<usize> = (0..limits.len()).collect();
    by_limit.sort_by_key(|&i| limits[i]);
    let mut shares = vec![0; limits.len()];
    let mut left = total;
    for (done, &i) in by_limit.iter().enumerate() {
        let rest = u32::try_from(limits.len() - done).unwrap_or(u32::MAX);
        shares[i] = left.div_ceil(rest).min(limits[i]);
        left -= shares[i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_use_all_there_is_and_never_more() {
        // R02
        for (total, limits, expected) in [
            (10, &[2500; 3][..], &[4, 3, 3][..]),
            (9, &[2500; 6], &[2, 2, 2, 1, 1, 1]),
            (2, &[2500; 3], &[1, 1, 0]),
            (0, &[2500; 2], &[0, 0]),
            (5000, &[100, 2500], &[100, 2500]),
            (100, &[2500, 10, 2500], &[45, 10, 45]),
            (7, &[], &[]),
        ] {
            assert_eq!(shares(total, limits), expected, "{total} over {limits:?}");
        }
    }
}
