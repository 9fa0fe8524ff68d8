use std::{ops::Range, time::Duration};

use nsq_broker::{Changes, ChannelState, Outstanding, Replay, Time};

use crate::support::{A, Bench, seconds};

fn outstanding(range: Range<u64>, attempts: u16, due: Option<Time>) -> Outstanding {
    Outstanding { range, attempts, due }
}

#[test]
fn an_untouched_channel_has_nothing_to_tell() {
    let mut bench = Bench::new();
    assert!(!bench.channel.has_changes());
    bench.client(A, 5);
    assert!(!bench.channel.has_changes());
    bench.publish(1);
    assert!(bench.channel.has_changes());
    let changes = bench.channel.changes();
    assert_eq!(changes, Changes { end: 1, ..Changes::default() });
    assert!(!bench.channel.has_changes());
}

#[test]
fn messages_finished_one_by_one_in_order_are_told_as_one_range() {
    let mut bench = Bench::with(1_000, 1_000);
    bench.take(A);
    for seq in 0..900 {
        bench.finish(A, seq..seq + 1);
    }
    bench.finish(A, 950..960);
    let changes = bench.channel.changes();
    assert_eq!((changes.cursor, changes.end), (1_000, 1_000));
    assert_eq!(changes.finished, [0..900, 950..960]);
    assert_eq!(changes.outstanding, [], "a first delivery follows from the cursor");
}

#[test]
fn a_timeout_alone_is_not_worth_telling() {
    let mut bench = Bench::with(1, 1);
    bench.take(A);
    bench.channel.changes();
    bench.wait(seconds(60));
    assert!(!bench.channel.has_changes());
    bench.take(A);
    assert_eq!(bench.channel.changes().outstanding, [outstanding(0..1, 2, None)]);
}

#[test]
fn delays_and_their_ends_are_told() {
    let mut bench = Bench::new();
    bench.client(A, 10);
    bench.publish_deferred(3, vec![(0..1, seconds(5))]);
    bench.take(A);
    bench.requeue(A, 2, seconds(9)).unwrap();
    let (soon, later) = (Some(bench.now + seconds(5)), Some(bench.now + seconds(9)));
    let expected = [outstanding(0..1, 0, soon), outstanding(2..3, 1, later)];
    assert_eq!(bench.channel.changes().outstanding, expected);
    bench.wait(seconds(5));
    assert_eq!(bench.channel.changes().outstanding, [outstanding(0..1, 0, None)]);
    bench.take(A);
    bench.finish(A, 0..1);
    let changes = bench.channel.changes();
    assert_eq!((changes.outstanding, changes.finished), (vec![], vec![0..1]));
}

#[test]
fn emptying_is_told_as_finishing_everything() {
    let mut bench = Bench::with(100, 10);
    let mut replay = Replay::new(ChannelState::default());
    bench.take(A);
    bench.requeue(A, 3, seconds(1)).unwrap();
    replay.apply(&bench.channel.changes());
    bench.channel.empty();
    let changes = bench.channel.changes();
    assert!(changes.reset);
    replay.apply(&changes);
    assert_eq!(replay.state(), ChannelState { end: 100, cursor: 100, ..ChannelState::default() });
    assert!(!bench.channel.has_changes());
}

#[test]
fn what_is_in_flight_at_a_restart_is_delivered_again_with_its_attempts() {
    let mut bench = Bench::with(10, 4);
    bench.take(A);
    bench.finish(A, 1..2);
    bench.requeue(A, 2, seconds(50)).unwrap();
    let due = bench.now + seconds(50);
    let mut bench = Bench::recovered(bench.channel.state());
    assert_eq!(bench.counts(), (8, 0, 1));
    assert_eq!(bench.channel.low(), 0);
    assert_eq!(bench.channel.next_deadline(), Some(due));
    assert_eq!(bench.channel.message_count(), 0);
    bench.client(A, 100);
    assert_eq!(bench.take(A), Some((0..1, 2)));
    assert_eq!(bench.take(A), Some((4..10, 1)));
    assert_eq!(bench.take(A), Some((3..4, 2)));
    bench.now = due;
    bench.wait(Duration::ZERO);
    assert_eq!(bench.take(A), Some((2..3, 2)));
}

#[test]
fn a_deferred_message_finished_before_those_in_front_stays_finished() {
    let mut bench = Bench::new();
    bench.publish_deferred(10, vec![(5..6, seconds(1))]);
    bench.wait(seconds(1));
    bench.client(A, 2);
    assert_eq!(bench.take(A), Some((5..6, 1)));
    bench.finish(A, 5..6);
    let state = bench.channel.state();
    assert_eq!((state.cursor, state.finished.clone()), (0, vec![5..6]));
    let mut bench = Bench::recovered(state);
    assert_eq!(bench.counts(), (9, 0, 0));
    bench.client(A, 100);
    assert_eq!(bench.take(A), Some((0..5, 1)));
    assert_eq!(bench.take(A), Some((6..10, 1)));
}

#[test]
fn older_changes_applied_late_do_not_bring_back_what_is_finished() {
    let mut bench = Bench::with(10, 10);
    let mut journal = Vec::new();
    bench.take(A);
    bench.requeue(A, 4, seconds(3)).unwrap();
    journal.push(bench.channel.changes());
    bench.wait(seconds(3));
    bench.take(A);
    bench.finish(A, 0..10);
    journal.push(bench.channel.changes());
    let mut replay = Replay::new(ChannelState::default());
    for changes in journal.iter().rev() {
        replay.apply(changes);
    }
    assert_eq!(replay.state(), bench.channel.state());
}

#[test]
fn a_state_that_makes_no_sense_loses_nothing_that_could_be_unfinished() {
    let state = ChannelState {
        end: 10,
        cursor: 40,
        finished: vec![7..9, 3..4, 20..30],
        outstanding: vec![outstanding(6..8, 2, None), outstanding(2..7, 1, None)],
        paused: true,
    };
    for state in [state.clone(), Replay::new(state).state()] {
        let channel = nsq_broker::Channel::recover(crate::support::config(), state);
        assert!(channel.is_paused());
        assert_eq!((channel.depth(), channel.low(), channel.end()), (4, 2, 10));
    }
}

#[test]
fn a_state_can_be_cut_to_a_shorter_log() {
    let mut state = ChannelState {
        end: 100,
        cursor: 80,
        finished: vec![85..95],
        outstanding: vec![outstanding(10..60, 1, None), outstanding(70..71, 1, None)],
        paused: false,
    };
    state.truncate(50);
    let mut bench = Bench::recovered(state);
    assert_eq!((bench.channel.end(), bench.counts()), (50, (40, 0, 0)));
    bench.publish(10);
    assert_eq!(bench.channel.depth(), 50);
}

#[test]
fn what_the_topic_dropped_is_passed_over_and_stays_gone() {
    let mut bench = Bench::with(2, 10);
    bench.channel.skip(4);
    assert_eq!(
        (bench.channel.end(), bench.channel.depth(), bench.channel.message_count()),
        (4, 2, 2)
    );
    let changes = bench.channel.changes();
    assert_eq!((changes.cursor, changes.end, &changes.finished[..]), (0, 4, &[2..4][..]));
    let mut replay = Replay::default();
    replay.apply(&changes);
    assert_eq!(replay.state(), bench.channel.state());
    // A part that the channel was given is not lost by being named again.
    bench.channel.skip(1);
    bench.publish(1);
    assert_eq!((bench.channel.end(), bench.channel.depth()), (5, 3));
}
