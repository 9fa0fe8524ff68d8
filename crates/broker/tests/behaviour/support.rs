//! A channel whose usual arguments are filled in.

use std::{ops::Range, time::Duration};

use nsq_broker::{
    Channel, ChannelConfig, ChannelState, ClientConfig, ClientId, Distance, FanOut, Refusal, Time,
};

pub(crate) const A: ClientId = ClientId(1);
pub(crate) const B: ClientId = ClientId(2);
pub(crate) const C: ClientId = ClientId(3);

pub(crate) const MSG_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn config() -> ChannelConfig {
    ChannelConfig { depth_max: None, max_msg_timeout: Duration::from_secs(100), seed: 5 }
}

fn client_config(sample_rate: u8, distance: Distance) -> ClientConfig {
    ClientConfig { msg_timeout: MSG_TIMEOUT, sample_rate, distance }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A channel with a clock.
pub(crate) struct Bench {
    pub(crate) channel: Channel,
    pub(crate) now: Time,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::of(Channel::new(config(), 0))
    }

    pub(crate) fn bounded(depth_max: u64) -> Bench {
        Bench::of(Channel::new(ChannelConfig { depth_max: Some(depth_max), ..config() }, 0))
    }

    pub(crate) fn recovered(state: ChannelState) -> Bench {
        Bench::of(Channel::recover(config(), state))
    }

    fn of(channel: Channel) -> Bench {
        Bench { channel, now: Time(1_000_000_000) }
    }

    /// A channel that was given `count` messages and has client A with a ready count of `ready`.
    pub(crate) fn with(count: u64, ready: u64) -> Bench {
        let mut bench = Bench::new();
        bench.publish(count);
        bench.client(A, ready);
        bench
    }

    pub(crate) fn client(&mut self, id: ClientId, ready: u64) {
        self.sampled_client(id, ready, 0);
    }

    pub(crate) fn sampled_client(&mut self, id: ClientId, ready: u64, sample_rate: u8) {
        self.channel.add_client(id, client_config(sample_rate, Distance::Global));
        self.ready(id, ready);
    }

    /// A client at a distance that has found nothing and waits.
    pub(crate) fn distant_client(&mut self, id: ClientId, ready: u64, distance: Distance) {
        self.idle_client(id, ready);
        self.channel.configure_client(id, client_config(0, distance));
    }

    /// A client that has found nothing and waits.
    pub(crate) fn idle_client(&mut self, id: ClientId, ready: u64) {
        self.client(id, ready);
        assert!(self.channel.offer(id).is_none());
        assert!(self.channel.park(id));
    }

    pub(crate) fn ready(&mut self, id: ClientId, count: u64) {
        self.channel.set_ready(id, count);
    }

    pub(crate) fn publish(&mut self, count: u64) {
        self.publish_deferred(count, Vec::new());
    }

    pub(crate) fn publish_deferred(&mut self, count: u64, deferred: Vec<(Range<u64>, Duration)>) {
        let end = self.channel.end();
        let fan_out = FanOut { range: end..end + count, deferred };
        self.channel.publish(&fan_out, self.now);
    }

    /// Takes all that the client is offered.
    pub(crate) fn take(&mut self, id: ClientId) -> Option<(Range<u64>, u16)> {
        self.take_up_to(id, u64::MAX)
    }

    pub(crate) fn take_up_to(&mut self, id: ClientId, count: u64) -> Option<(Range<u64>, u16)> {
        let offer = self.channel.offer(id)?;
        let taken = self.channel.take(id, &offer, count, self.now);
        Some((offer.range.start..offer.range.start + taken, offer.attempts))
    }

    /// Takes until nothing is offered, then parks. Returns the number of messages taken.
    pub(crate) fn take_all(&mut self, id: ClientId) -> u64 {
        let mut count = 0;
        while let Some((range, _)) = self.take(id) {
            count += range.end - range.start;
        }
        assert!(self.channel.park(id));
        count
    }

    pub(crate) fn finish(&mut self, id: ClientId, range: Range<u64>) -> Vec<(u64, Refusal)> {
        let mut failed = Vec::new();
        self.channel.finish(id, range, &mut failed);
        failed
    }

    pub(crate) fn requeue(
        &mut self,
        id: ClientId,
        seq: u64,
        delay: Duration,
    ) -> Result<(), Refusal> {
        self.channel.requeue(id, seq, delay, self.now)
    }

    pub(crate) fn touch(&mut self, id: ClientId, seq: u64) -> Result<(), Refusal> {
        self.channel.touch(id, seq, self.now)
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.channel.expire(self.now);
    }

    /// Ready, in flight and deferred.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let channel = &self.channel;
        (channel.depth(), channel.in_flight_count(), channel.deferred_count())
    }

    /// The clients woken since the last call.
    pub(crate) fn woken(&mut self) -> Vec<ClientId> {
        self.channel.drain_woken().collect()
    }
}
