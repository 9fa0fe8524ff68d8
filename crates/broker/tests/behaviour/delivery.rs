use std::time::Duration;

use crate::support::{A, B, Bench, seconds};

#[test]
fn a_client_is_offered_what_its_ready_count_allows() {
    let mut bench = Bench::with(10, 0);
    assert_eq!(bench.take(A), None);
    bench.ready(A, 4);
    assert_eq!(bench.take(A), Some((0..4, 1)));
    assert_eq!(bench.take(A), None);
    assert_eq!(bench.counts(), (6, 4, 0));
}

#[test]
fn the_ready_count_is_a_ceiling_that_finishing_makes_room_under() {
    let mut bench = Bench::with(10, 3);
    bench.take(A);
    bench.finish(A, 0..2);
    assert_eq!(bench.take(A), Some((3..5, 1)));
    bench.ready(A, 1);
    bench.finish(A, 2..4);
    assert_eq!(bench.take(A), None, "one is in flight, as many as it now wants");
    assert_eq!(bench.channel.in_flight_count(), 1, "lowering it recalls nothing");
}

#[test]
fn a_client_may_take_less_than_it_is_offered() {
    let mut bench = Bench::with(10, 8);
    assert_eq!(bench.take_up_to(A, 3), Some((0..3, 1)));
    assert_eq!(bench.take_up_to(A, 0), Some((3..3, 1)));
    assert_eq!(bench.take(A), Some((3..8, 1)));
}

#[test]
fn a_paused_channel_delivers_nothing() {
    let mut bench = Bench::with(5, 2);
    bench.take(A);
    bench.channel.pause();
    bench.finish(A, 0..2);
    assert_eq!(bench.take(A), None);
    assert!(bench.channel.park(A));
    bench.publish(5);
    assert_eq!((bench.counts(), bench.woken()), ((8, 0, 0), vec![]));
    bench.channel.unpause();
    assert_eq!(bench.woken(), [A]);
    assert_eq!(bench.take(A), Some((2..4, 1)));
}

#[test]
fn in_a_paused_channel_messages_still_finish_time_out_and_become_due() {
    let mut bench = Bench::with(3, 3);
    bench.take(A);
    bench.channel.pause();
    assert_eq!(bench.finish(A, 0..1), []);
    bench.requeue(A, 1, seconds(5)).unwrap();
    bench.touch(A, 2).unwrap();
    bench.wait(seconds(60));
    assert_eq!(bench.counts(), (2, 0, 0));
}

#[test]
fn an_emptied_channel_has_nothing_left_and_keeps_its_counters() {
    let mut bench = Bench::with(10, 4);
    bench.publish_deferred(2, vec![(10..12, seconds(9))]);
    bench.take(A);
    bench.requeue(A, 1, Duration::ZERO).unwrap();
    bench.channel.empty();
    assert_eq!((bench.counts(), bench.channel.low()), ((0, 0, 0), 12));
    assert_eq!(bench.channel.message_count(), 12);
    assert_eq!(bench.channel.requeue_count(), 1);
    assert_eq!(bench.channel.client(A).unwrap().in_flight, 0);
    assert_eq!(bench.channel.client(A).unwrap().message_count, 4);
    assert_eq!(bench.finish(A, 0..1).len(), 1);
    assert_eq!(bench.channel.next_deadline(), None);
    bench.publish(1);
    assert_eq!(bench.take(A), Some((12..13, 1)));
}

#[test]
fn emptying_a_channel_lets_a_full_client_be_called_again() {
    let mut bench = Bench::with(1, 1);
    assert_eq!(bench.take_all(A), 1);
    bench.channel.empty();
    bench.publish(1);
    assert_eq!(bench.woken(), [A]);
}

#[test]
fn requeued_and_new_messages_take_turns() {
    let mut bench = Bench::with(4, 1);
    let mut seen = Vec::new();
    for _ in 0..8 {
        let (range, attempts) = bench.take(A).unwrap();
        seen.push((range.start, attempts));
        bench.requeue(A, range.start, Duration::ZERO).unwrap();
    }
    assert_eq!(seen, [(0, 1), (0, 2), (1, 1), (0, 3), (2, 1), (1, 2), (3, 1), (0, 4)]);
}

#[test]
fn messages_requeued_one_after_the_other_are_delivered_together_again() {
    let mut bench = Bench::with(6, 6);
    bench.take(A);
    for seq in [2, 3, 4] {
        bench.requeue(A, seq, Duration::ZERO).unwrap();
    }
    assert_eq!(bench.take(A), Some((2..5, 2)));
}

#[test]
fn messages_with_different_attempts_are_offered_apart() {
    let mut bench = Bench::with(2, 2);
    bench.take(A);
    bench.requeue(A, 0, Duration::ZERO).unwrap();
    bench.take(A);
    bench.requeue(A, 0, Duration::ZERO).unwrap();
    bench.requeue(A, 1, Duration::ZERO).unwrap();
    assert_eq!(bench.take(A), Some((0..1, 3)));
    assert_eq!(bench.take(A), Some((1..2, 2)));
}

#[test]
fn a_deferred_publish_is_delivered_when_it_is_due_and_not_before() {
    let mut bench = Bench::new();
    bench.client(A, 10);
    bench.publish_deferred(5, vec![(1..3, seconds(5)), (4..5, seconds(7))]);
    assert_eq!(bench.counts(), (2, 0, 3));
    assert_eq!(bench.channel.message_count(), 5);
    assert_eq!(bench.take(A), Some((0..1, 1)));
    assert_eq!(bench.take(A), Some((3..4, 1)));
    assert!(bench.channel.park(A));
    assert_eq!(bench.channel.next_deadline(), Some(bench.now + seconds(5)));
    bench.wait(seconds(5) - Duration::from_nanos(1));
    assert_eq!(bench.woken(), []);
    bench.wait(Duration::from_nanos(1));
    assert_eq!(bench.woken(), [A]);
    assert_eq!(bench.take(A), Some((1..3, 1)));
    assert_eq!(bench.take(A), None);
}

#[test]
fn a_deferral_of_zero_is_none() {
    let mut bench = Bench::new();
    bench.client(A, 10);
    bench.publish_deferred(3, vec![(1..2, Duration::ZERO)]);
    assert_eq!(bench.take(A), Some((0..3, 1)));
}

#[test]
fn what_the_channel_was_given_before_is_ignored() {
    let mut bench = Bench::with(5, 10);
    let again = nsq_broker::FanOut { range: 3..7, deferred: vec![(2..4, seconds(1))] };
    bench.channel.publish(&again, bench.now);
    assert_eq!((bench.channel.message_count(), bench.channel.end()), (7, 7));
    assert_eq!(bench.take(A), Some((0..7, 1)));
}

#[test]
fn what_was_not_fanned_out_in_order_is_not_skipped() {
    let mut bench = Bench::with(5, 10);
    let ahead = nsq_broker::FanOut { range: 7..9, deferred: Vec::new() };
    bench.channel.publish(&ahead, bench.now);
    assert_eq!(bench.take(A), Some((0..9, 1)));
}

#[test]
fn the_depth_below_a_message_counts_what_is_ready_only() {
    let mut bench = Bench::with(10, 6);
    bench.take(A);
    bench.requeue(A, 1, Duration::ZERO).unwrap();
    bench.requeue(A, 4, Duration::ZERO).unwrap();
    let below = |seq| bench.channel.ready_below(seq);
    assert_eq!([0, 1, 2, 5, 6, 8, 10, 99].map(below), [0, 0, 1, 2, 2, 4, 6, 6]);
}

#[test]
fn a_sampled_client_sees_its_share_and_the_rest_is_finished() {
    for (rate, expected) in [(1, 200), (49, 5_000), (98, 9_900), (99, 10_000)] {
        let mut bench = Bench::new();
        bench.sampled_client(A, 100_000, rate);
        bench.publish(10_000);
        let seen = bench.take_all(A);
        assert!(seen.abs_diff(expected) <= expected / 5 / if rate > 1 { 5 } else { 1 }, "{seen}");
        assert_eq!(bench.counts(), (0, seen, 0));
        assert_eq!(bench.channel.client(A).unwrap().message_count, seen);
    }
}

#[test]
fn offering_a_message_to_a_sampled_client_again_does_not_draw_again() {
    let mut bench = Bench::new();
    bench.sampled_client(A, 10, 30);
    bench.publish(100);
    let offer = bench.channel.offer(A).unwrap();
    for _ in 0..50 {
        assert_eq!(bench.channel.offer(A), Some(offer.clone()));
    }
}

#[test]
fn what_a_sampled_client_drops_is_gone_for_everybody() {
    let mut bench = Bench::new();
    bench.sampled_client(A, 1_000, 10);
    bench.publish(1_000);
    let seen = bench.take_all(A);
    bench.client(B, 1_000);
    assert_eq!(bench.take(B), None);
    bench.wait(seconds(60));
    assert_eq!(bench.channel.depth(), seen);
}

#[test]
fn settings_changed_later_hold_for_later_deliveries() {
    let mut bench = Bench::with(2, 1);
    bench.take(A);
    let first = bench.channel.next_deadline().unwrap();
    let config = nsq_broker::ClientConfig {
        msg_timeout: seconds(1),
        sample_rate: 0,
        distance: nsq_broker::Distance::Global,
    };
    bench.channel.configure_client(A, config);
    assert_eq!(bench.channel.next_deadline(), Some(first));
    bench.ready(A, 2);
    bench.take(A);
    assert_eq!(bench.channel.next_deadline(), Some(bench.now + seconds(1)));
}
