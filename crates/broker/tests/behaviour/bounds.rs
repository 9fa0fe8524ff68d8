use std::{ops::Range, time::Duration};

use crate::support::{A, B, Bench, seconds};

/// Every second message of `range` deferred, each a little longer than the one before.
fn each_with_its_own_delay(range: Range<u64>) -> Vec<(Range<u64>, Duration)> {
    let delay = |seq: u64| seconds(1) + Duration::from_micros(seq);
    range.step_by(2).map(|seq| (seq..seq + 1, delay(seq))).collect()
}

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

#[test]
fn however_many_messages_are_due_one_call_makes_a_bounded_number_ready() {
    const DEFERRED: u64 = 10_000;
    let mut bench = Bench::new();
    bench.publish_deferred(2 * DEFERRED, each_with_its_own_delay(0..2 * DEFERRED));
    bench.idle_client(A, 0);
    let mut calls = 0;
    let mut ready = bench.channel.depth();
    bench.wait(seconds(3600));
    loop {
        calls += 1;
        let became_ready = bench.channel.depth() - ready;
        assert!((1..=2_000).contains(&became_ready), "{became_ready} at once");
        ready += became_ready;
        if bench.channel.deferred_count() == 0 {
            break;
        }
        assert!(bench.channel.next_deadline() <= Some(bench.now), "the caller must come again");
        bench.wait(Duration::ZERO);
    }
    assert!(calls > 1);
    assert_eq!(bench.channel.next_deadline(), None);
    assert_eq!(bench.counts(), (2 * DEFERRED, 0, 0));
}

#[test]
fn what_every_waiting_client_takes_at_once_needs_no_room() {
    let mut bench = Bench::bounded(1);
    bench.idle_client(A, 2);
    bench.idle_client(B, 3);
    bench.publish(2);
    bench.publish(1);
    assert_eq!(bench.channel.depth(), 3, "both have been woken for a part of what they want");
    bench.publish(10);
    assert_eq!(bench.channel.depth(), 6, "five for the clients, one in the queue");
    assert_eq!((bench.take_all(A), bench.take_all(B)), (2, 3));
    bench.publish(1);
    assert_eq!(bench.channel.depth(), 1);
}
