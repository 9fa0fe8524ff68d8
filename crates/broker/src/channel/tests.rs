//! The cost of keeping a channel.

use super::*;

const CLIENT: ClientId = ClientId(1);

fn channel() -> Channel {
    let max_msg_timeout = Duration::from_secs(900);
    let mut channel = Channel::new(ChannelConfig { depth_max: None, max_msg_timeout, seed: 1 }, 0);
    let msg_timeout = Duration::from_secs(60);
    channel.add_client(
        CLIENT,
        ClientConfig { msg_timeout, sample_rate: 0, distance: Distance::Global },
    );
    channel.set_ready(CLIENT, 100);
    channel
}

/// The number of things that are kept, of whatever kind.
fn cost(channel: &Channel) -> usize {
    let put_aside = channel.aside.entry_count() + channel.in_flight.entry_count();
    put_aside + channel.pending.range_count() + channel.unreported.finished.len()
}

/// Passes `count` messages through the channel, 50 at a time, and finishes all but those in `keep`.
fn pass(channel: &mut Channel, count: u64, keep: Range<u64>) -> usize {
    let mut most = 0;
    for start in (0..count).step_by(50) {
        let fan_out = FanOut { range: start..start + 50, deferred: Vec::new() };
        channel.publish(&fan_out, Time(start));
        while let Some(offer) = channel.offer(CLIENT) {
            channel.take(CLIENT, &offer, u64::MAX, Time(start));
            let low = offer.range.start..offer.range.end.min(keep.start);
            let high = offer.range.start.max(keep.end)..offer.range.end;
            for range in [low, high] {
                channel.finish(CLIENT, range, &mut Vec::new());
            }
        }
        channel.drain_woken().for_each(drop);
        most = most.max(cost(channel));
    }
    most
}

#[test]
fn a_message_never_finished_costs_no_memory_for_those_that_pass() {
    let mut channel = channel();
    assert!(pass(&mut channel, 1_000_000, 12..13) < 10);
    assert_eq!((channel.low(), channel.in_flight_count()), (12, 1));
}

#[test]
fn a_message_touched_for_ever_costs_no_memory() {
    let mut channel = channel();
    pass(&mut channel, 50, 10..20);
    for now in 0..10_000 {
        channel.touch(CLIENT, 15, Time(now)).unwrap();
    }
    assert!(channel.in_flight.entry_count() <= 3);
}

#[test]
fn a_message_requeued_for_ever_costs_no_memory() {
    let mut channel = channel();
    pass(&mut channel, 50, 10..20);
    for now in 0..10_000 {
        channel.requeue(CLIENT, 15, Duration::ZERO, Time(now)).unwrap();
        let offer = channel.offer(CLIENT).unwrap();
        channel.take(CLIENT, &offer, 1, Time(now));
    }
    assert!(cost(&channel) <= 5);
}

#[test]
fn messages_handed_out_at_once_are_one_entry_until_something_happens_to_a_part() {
    let mut channel = channel();
    channel.set_ready(CLIENT, 3_000);
    let fan_out = FanOut { range: 0..2_500, deferred: Vec::new() };
    channel.publish(&fan_out, Time(0));
    let offer = channel.offer(CLIENT).unwrap();
    channel.take(CLIENT, &offer, 2_500, Time(0));
    assert_eq!(channel.in_flight.entry_count(), 1);
    for seq in 0..1_000 {
        channel.finish(CLIENT, seq..seq + 1, &mut Vec::new());
    }
    assert_eq!(channel.in_flight.entry_count(), 1);
    channel.finish(CLIENT, 1_500..1_501, &mut Vec::new());
    assert_eq!(channel.in_flight.entry_count(), 2);
    for seq in 1_000..2_500 {
        channel.touch(CLIENT, seq, Time(5)).ok();
    }
    assert_eq!(channel.in_flight.entry_count(), 2, "touched neighbours are one entry again");
}

#[test]
fn a_client_that_left_leaves_nothing_behind() {
    let mut clients = Clients::default();
    let msg_timeout = Duration::from_secs(60);
    for id in (0..1_000).map(ClientId) {
        clients.configure(
            id,
            ClientConfig { msg_timeout, sample_rate: 0, distance: Distance::Global },
        );
        clients.update(id, |stats| stats.ready = 5);
        clients.park(id, 0);
    }
    clients.wake(1_500);
    for id in (0..1_000).map(ClientId) {
        clients.remove(id);
    }
    assert!(clients.is_unused());
}
