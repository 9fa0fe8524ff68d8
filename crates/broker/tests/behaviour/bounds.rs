use std::time::Duration;

use crate::support::{A, Bench, seconds};

#[test]
fn a_full_channel_drops_the_newest_messages() {
    let mut bench = Bench::bounded(5);
    bench.publish(3);
    bench.publish(4);
    bench.publish(1);
    assert_eq!(bench.counts(), (5, 0, 0));
    assert_eq!(bench.channel.message_count(), 8);
    bench.client(A, 10);
    assert_eq!(bench.take(A), Some((0..5, 1)));
    assert_eq!(bench.take(A), None);
    bench.publish(2);
    assert_eq!(bench.take(A), Some((8..10, 1)), "there is room again");
    bench.finish(A, 0..5);
    assert_eq!(bench.channel.low(), 8, "dropped messages are finished with");
}

#[test]
fn deferred_messages_need_no_room() {
    let mut bench = Bench::bounded(2);
    bench.publish_deferred(6, vec![(0..3, seconds(1))]);
    assert_eq!(bench.counts(), (2, 0, 3));
    bench.wait(seconds(1));
    assert_eq!(bench.counts(), (5, 0, 0), "what was accepted is not dropped later");
}

#[test]
fn requeued_messages_are_never_dropped() {
    let mut bench = Bench::bounded(2);
    bench.publish(2);
    bench.client(A, 2);
    bench.take(A);
    bench.publish(2);
    bench.requeue(A, 0, Duration::ZERO).unwrap();
    bench.requeue(A, 1, Duration::ZERO).unwrap();
    assert_eq!(bench.counts(), (4, 0, 0));
    bench.publish(1);
    assert_eq!(bench.counts(), (4, 0, 0));
}

#[test]
fn what_a_waiting_client_takes_at_once_needs_no_room() {
    let mut bench = Bench::bounded(0);
    bench.publish(1);
    assert_eq!(bench.channel.depth(), 0, "nobody waits");
    bench.idle_client(A, 3);
    bench.publish(5);
    assert_eq!(bench.take_all(A), 3);
    bench.publish(1);
    assert_eq!(bench.channel.depth(), 0, "the client has as many as it wants");
    bench.finish(A, 1..4);
    bench.channel.pause();
    bench.publish(1);
    assert_eq!(bench.channel.depth(), 0, "the channel is paused");
}
