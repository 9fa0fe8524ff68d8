use std::{ops::Range, time::Duration};

use nsq_broker::{
    Refusal::{self, NotInFlight, NotOwner},
    Stamp,
};

use crate::support::{A, B, Bench, MSG_TIMEOUT, seconds};

#[test]
fn finishing_counts_and_moves_the_low_mark() {
    let mut bench = Bench::with(10, 10);
    bench.take(A);
    assert_eq!(bench.finish(A, 4..6), []);
    assert_eq!(bench.channel.low(), 0);
    assert_eq!(bench.finish(A, 0..4), []);
    assert_eq!(bench.channel.low(), 6);
    let stats = bench.channel.client(A).unwrap();
    assert_eq!((stats.in_flight, stats.finish_count, stats.message_count), (4, 6, 10));
    assert_eq!(bench.finish(A, 6..10), []);
    assert_eq!((bench.channel.low(), bench.counts()), (10, (0, 0, 0)));
    assert_eq!(bench.channel.next_deadline(), None);
}

#[test]
fn a_fin_for_what_is_not_in_flight_is_refused_and_changes_nothing() {
    let mut bench = Bench::with(5, 3);
    bench.take(A);
    bench.finish(A, 1..2);
    bench.requeue(A, 2, seconds(1)).unwrap();
    let before = bench.channel.state();
    let refused = [(1, NotInFlight), (2, NotInFlight), (3, NotInFlight), (4, NotInFlight)];
    assert_eq!(bench.finish(A, 1..5), refused);
    assert_eq!(bench.finish(A, 77..78), [(77, NotInFlight)]);
    assert_eq!(bench.requeue(A, 1, seconds(1)), Err(NotInFlight));
    assert_eq!(bench.touch(A, 3), Err(NotInFlight));
    assert_eq!(bench.channel.state(), before);
    assert_eq!(bench.counts(), (2, 1, 1));
    assert_eq!(bench.channel.client(A).unwrap().finish_count, 1);
}

#[test]
fn a_client_cannot_touch_finish_or_requeue_what_is_in_flight_to_another() {
    let mut bench = Bench::with(4, 2);
    bench.client(B, 2);
    bench.take(A);
    bench.take(B);
    assert_eq!(bench.finish(B, 0..3), [(0, NotOwner), (1, NotOwner)]);
    assert_eq!(bench.requeue(B, 0, Duration::ZERO), Err(NotOwner));
    assert_eq!(bench.touch(B, 1), Err(NotOwner));
    assert_eq!(bench.channel.client(A).unwrap().in_flight, 2);
    assert_eq!(bench.channel.client(B).unwrap().in_flight, 1);
}

#[test]
fn a_finished_message_gives_back_the_stamp_it_was_handed_out_with() {
    let mut bench = Bench::with(10, 10);
    let offer = bench.channel.offer(A).unwrap();
    let runs = [(3, Stamp(7)), (0, Stamp(6)), (2, Stamp(8)), (9, Stamp(9))];
    assert_eq!(bench.channel.take_stamped(A, &offer, runs, bench.now), 10, "not more than offered");
    let mut finish = |range: Range<u64>| {
        let (mut failed, mut finished) = (Vec::new(), Vec::new());
        bench.channel.finish_stamped(A, range, &mut failed, |count, stamp| {
            finished.push((count, stamp.0));
        });
        (finished, failed)
    };
    assert_eq!(finish(1..4), (vec![(2, 7), (1, 8)], vec![]));
    assert_eq!(finish(0..6), (vec![(1, 7), (1, 8), (1, 9)], refused(1..4)));
    assert_eq!(bench.counts(), (0, 4, 0));
    bench.wait(seconds(1));
    bench.touch(A, 8).unwrap();
    bench.requeue(A, 6, Duration::ZERO).unwrap();
    assert_eq!(bench.take(A), Some((6..7, 2)));
    let mut stamps = Vec::new();
    bench.channel.finish_stamped(A, 6..10, &mut Vec::new(), |count, stamp| {
        stamps.push((count, stamp.0));
    });
    assert_eq!(stamps, [(1, 0), (1, 9), (1, 9), (1, 9)], "of the last delivery, also when touched");
}

fn refused(range: Range<u64>) -> Vec<(u64, Refusal)> {
    range.map(|seq| (seq, NotInFlight)).collect()
}

#[test]
fn refusals_read_as_nsq_spells_them() {
    assert_eq!(NotInFlight.to_string(), "ID not in flight");
    assert_eq!(NotOwner.to_string(), "client does not own message");
}

#[test]
fn a_message_in_flight_for_too_long_is_delivered_again() {
    let mut bench = Bench::with(3, 3);
    bench.take(A);
    bench.finish(A, 0..1);
    assert_eq!(bench.channel.next_deadline(), Some(bench.now + MSG_TIMEOUT));
    bench.wait(MSG_TIMEOUT - Duration::from_nanos(1));
    assert_eq!(bench.counts(), (0, 2, 0));
    bench.wait(Duration::from_nanos(1));
    assert_eq!(bench.counts(), (2, 0, 0));
    assert_eq!(bench.channel.timeout_count(), 2);
    assert_eq!(bench.channel.requeue_count(), 0);
    assert_eq!(bench.channel.client(A).unwrap().in_flight, 0);
    assert_eq!(bench.finish(A, 1..2), [(1, NotInFlight)]);
    assert_eq!(bench.take(A), Some((1..3, 2)));
    assert_eq!(bench.finish(A, 1..2), [], "it is in flight to the same client again");
}

#[test]
fn a_timeout_calls_the_client_it_made_room_for() {
    let mut bench = Bench::with(1, 1);
    assert_eq!(bench.take_all(A), 1);
    bench.wait(MSG_TIMEOUT);
    assert_eq!(bench.woken(), [A]);
    assert_eq!(bench.take(A), Some((0..1, 2)));
}

#[test]
fn a_touch_restarts_the_timeout_but_not_for_ever() {
    let mut bench = Bench::with(2, 2);
    bench.take(A);
    let delivered = bench.now;
    bench.wait(seconds(30));
    bench.touch(A, 0).unwrap();
    bench.wait(seconds(30));
    assert_eq!(bench.counts(), (1, 1, 0), "only the untouched one timed out");
    assert_eq!(bench.channel.next_deadline(), Some(delivered + seconds(90)));
    bench.touch(A, 0).unwrap();
    assert_eq!(bench.channel.next_deadline(), Some(delivered + seconds(100)));
    bench.wait(seconds(40));
    assert_eq!(bench.touch(A, 0), Err(NotInFlight));
}

#[test]
fn touched_neighbours_keep_their_attempts() {
    let mut bench = Bench::with(2, 2);
    bench.take(A);
    bench.requeue(A, 0, Duration::ZERO).unwrap();
    bench.take(A);
    bench.channel.changes();
    bench.wait(seconds(1));
    bench.touch(A, 0).unwrap();
    bench.touch(A, 1).unwrap();
    bench.wait(seconds(60));
    assert_eq!(bench.take(A), Some((0..1, 3)));
    assert_eq!(bench.take(A), Some((1..2, 2)));
}

#[test]
fn a_requeue_counts_and_leaves_attempts_as_they_are() {
    let mut bench = Bench::with(1, 1);
    bench.take(A);
    bench.requeue(A, 0, Duration::ZERO).unwrap();
    assert_eq!(bench.channel.requeue_count(), 1);
    let stats = *bench.channel.client(A).unwrap();
    assert_eq!((stats.requeue_count, stats.in_flight, stats.finish_count), (1, 0, 0));
    assert_eq!(bench.channel.state().outstanding[0].attempts, 1);
    assert_eq!(bench.take(A), Some((0..1, 2)));
}

#[test]
fn a_requeue_with_a_delay_waits_for_it() {
    let mut bench = Bench::with(1, 1);
    bench.take(A);
    bench.requeue(A, 0, seconds(90)).unwrap();
    assert_eq!(bench.counts(), (0, 0, 1));
    assert_eq!(bench.channel.next_deadline(), Some(bench.now + seconds(90)));
    bench.wait(seconds(89));
    assert_eq!(bench.take(A), None);
    bench.wait(seconds(1));
    assert_eq!(bench.take(A), Some((0..1, 2)));
}

#[test]
fn attempts_stop_counting_at_the_largest_the_wire_knows() {
    let outstanding = nsq_broker::Outstanding { range: 0..1, attempts: u16::MAX - 1, due: None };
    let state = nsq_broker::ChannelState {
        end: 1,
        cursor: 1,
        outstanding: vec![outstanding],
        ..Default::default()
    };
    let mut bench = Bench::recovered(state);
    bench.client(A, 1);
    for _ in 0..3 {
        assert_eq!(bench.take(A), Some((0..1, u16::MAX)));
        bench.requeue(A, 0, Duration::ZERO).unwrap();
    }
}

#[test]
fn messages_of_a_client_that_left_wait_for_their_timeout() {
    let mut bench = Bench::with(2, 2);
    bench.take(A);
    bench.channel.remove_client(A, false);
    bench.client(B, 2);
    assert_eq!(bench.counts(), (0, 2, 0));
    assert_eq!(bench.finish(B, 0..1), [(0, NotOwner)]);
    assert_eq!(bench.finish(A, 0..1), [(0, NotOwner)], "nobody can finish it meanwhile");
    bench.wait(MSG_TIMEOUT);
    assert_eq!(bench.channel.timeout_count(), 2);
    assert_eq!(bench.take(B), Some((0..2, 2)));
}

#[test]
fn messages_of_a_client_that_left_are_ready_at_once_when_asked_for() {
    let mut bench = Bench::with(4, 2);
    bench.take(A);
    bench.finish(A, 0..1);
    bench.client(B, 2);
    bench.take(B);
    let stats = bench.channel.remove_client(A, true).unwrap();
    assert_eq!((stats.in_flight, stats.finish_count), (1, 1));
    assert_eq!(bench.counts(), (1, 2, 0));
    assert_eq!(bench.channel.client_count(), 1);
    assert_eq!(bench.channel.client(A), None);
    bench.ready(B, 3);
    assert_eq!(bench.take(B), Some((1..2, 2)));
}
