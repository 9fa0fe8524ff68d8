//! The figures of a node under their names in statsd.

use std::{collections::HashMap, fmt::Display};

use foldhash::fast::RandomState;

use super::{packets::Packets, prefix};
use crate::{
    birth::Birth,
    latency::LatencyReport,
    memory::Memory,
    node::Node,
    topic::{Topic, channel::Channel},
};

/// The state that a push leaves for the next one.
#[derive(Default)]
pub(super) struct Figures {
    counters: Counters,
}

impl Figures {
    /// Collects all figures of the node: counters as they have grown since the last call.
    pub(super) fn collect(&mut self, node: &Node) -> Vec<String> {
        let options = &node.services.options.statsd;
        let mut packets = Packets::new(prefix(node), options.udp_packet_size);
        for topic in node.all_topics() {
            if topic.name.is_ephemeral() && options.exclude_ephemeral {
                continue;
            }
            self.topic(&topic, &mut packets);
            let tail_start = topic.log.tail_start();
            for channel in topic.channels() {
                if !(channel.name.is_ephemeral() && options.exclude_ephemeral) {
                    self.channel(&topic, &channel, tail_start, &mut packets);
                }
            }
        }
        self.counters.turn();
        if options.mem_stats {
            memory(&Memory::of_this_process(), &mut packets);
        }
        packets.finish()
    }

    fn topic(&mut self, topic: &Topic, packets: &mut Packets) {
        let (name, counts) = (&topic.name, topic.counts());
        let growth =
            self.counters.growth(topic.birth, [counts.message_count, counts.message_bytes, 0]);
        let [messages, bytes, _] = growth;
        packets.count(format_args!("topic.{name}.message_count"), messages);
        packets.count(format_args!("topic.{name}.message_bytes"), bytes);
        packets.gauge(format_args!("topic.{name}.depth"), counts.depth);
        packets.gauge(format_args!("topic.{name}.backend_depth"), counts.backend_depth);
        percentiles(format_args!("topic.{name}"), &topic.latency(), packets);
    }

    fn channel(
        &mut self,
        topic: &Topic,
        channel: &Channel,
        tail_start: u64,
        packets: &mut Packets,
    ) {
        let counts = channel.counts(tail_start);
        let totals = [counts.messages, counts.requeues, counts.timeouts];
        let [messages, requeues, timeouts] = self.counters.growth(channel.birth, totals);
        let name = format!("topic.{}.channel.{}", topic.name, channel.name);
        packets.count(format_args!("{name}.message_count"), messages);
        packets.gauge(format_args!("{name}.depth"), counts.depth);
        packets.gauge(format_args!("{name}.backend_depth"), counts.backend_depth);
        packets.gauge(format_args!("{name}.in_flight_count"), counts.in_flight);
        packets.gauge(format_args!("{name}.deferred_count"), counts.deferred);
        packets.count(format_args!("{name}.requeue_count"), requeues);
        packets.count(format_args!("{name}.timeout_count"), timeouts);
        packets.gauge(format_args!("{name}.clients"), counts.clients as u64);
        percentiles(format_args!("{name}"), &channel.latency(), packets);
    }
}

/// Adds the percentiles, whose names have no digits behind the point: 0.999 is `_100`.
fn percentiles(of: impl Display, latency: &LatencyReport, packets: &mut Packets) {
    for percentile in latency.percentiles() {
        let rounded = percentile.quantile * 100.0;
        let name = format_args!("{of}.e2e_processing_latency_{rounded:.0}");
        packets.gauge(name, percentile.value_ns);
    }
}

/// Adds the figures of the memory. There are no garbage collections to count.
fn memory(memory: &Memory, packets: &mut Packets) {
    for (name, value) in memory.rows() {
        match name {
            "gc_total_runs" => packets.count(format_args!("mem.gc_runs"), value),
            _ => packets.gauge(format_args!("mem.{name}"), value),
        }
    }
}

/// The counters of topics and channels at the last push.
///
/// They are kept by birth, not by name: the successor of a deleted topic starts at zero.
#[derive(Default)]
struct Counters {
    last: Totals,
    this: Totals,
}

type Totals = HashMap<Birth, [u64; 3], RandomState>;

impl Counters {
    /// How the counters of a topic or channel have grown since the last push, or since its beginning.
    fn growth(&mut self, of: Birth, totals: [u64; 3]) -> [u64; 3] {
        self.this.insert(of, totals);
        let last = self.last.get(&of).copied().unwrap_or_default();
        std::array::from_fn(|index| totals[index].saturating_sub(last[index]))
    }

    /// Ends a push; forgets topics and channels that were not part of it.
    fn turn(&mut self) {
        self.last = std::mem::take(&mut self.this);
    }
}
