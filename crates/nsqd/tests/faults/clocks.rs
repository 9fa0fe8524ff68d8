//! Clocks that are wrong, and are put right: timestamps follow the wall clock, delays do not.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nsq_log::testing::Stop;
use nsq_protocol::Command;
use nsqd::Clocks as _;

use crate::{
    machine::{FOLDER, Machine},
    support::{Client, Server, eventually},
};

/// The longest delay that can be asked for.
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const HALF: Duration = Duration::from_secs(1800);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

fn defer(server: &Server, delay: Duration, body: &[u8]) {
    server.client().ok(Command::DeferredPub { topic: "t", delay_ms: millis(delay), body });
}

/// Publishes a message, and requeues it with a delay.
fn requeue(server: &Server, consumer: &mut Client, delay: Duration) {
    server.client().publish("t", b"requeued");
    let message = consumer.message();
    assert_eq!(message.body, b"requeued");
    consumer.req(message.id, millis(delay));
    consumer.settle();
}

fn sorted(mut bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    bodies.sort();
    bodies
}

#[test]
fn timestamps_follow_the_wall_clock_wherever_it_is_set() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "c", 1);
    let start = machine.clocks.wall();
    let mut last = None;
    for wall in [start, start + DAY, start + HOUR, start - HOUR] {
        machine.clocks.set_wall(wall);
        server.client().publish("t", b"x");
        let message = consumer.message();
        consumer.fin(message.id);
        assert_eq!(u128::from(message.timestamp_ns.cast_unsigned()), wall.as_nanos());
        assert!(last < Some(message.id), "ids go on whatever the clock says");
        last = Some(message.id);
    }
}

#[test]
fn a_clock_that_is_set_while_nsqd_runs_changes_no_delay_and_no_timeout() {
    let machine = Machine::new();
    let server = machine.start(|options| options.msg_timeout = MINUTE);
    let mut consumer = server.consumer("t", "c", 10);
    let start = machine.clocks.wall();
    let second = Duration::from_secs(1);
    for wall in [start + DAY, start - 30 * DAY] {
        defer(&server, MINUTE, b"deferred");
        requeue(&server, &mut consumer, MINUTE);
        server.client().publish("t", b"times out");
        assert_eq!(consumer.message().attempts, 1);
        machine.clocks.set_wall(wall);
        machine.clocks.pass(MINUTE - second);
        consumer.expect_nothing();
        machine.clocks.pass(second);
        let bodies = sorted(consumer.finish_next(3));
        assert_eq!(bodies, [b"deferred".as_slice(), b"requeued", b"times out"]);
        consumer.expect_nothing();
    }
}

#[test]
fn within_a_boot_delays_go_on_over_a_restart_whatever_the_wall_clock_says() {
    let machine = Machine::new();
    let mut server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "c", 10);
    let start = machine.clocks.wall();
    for wall in [start + 30 * DAY, start - 30 * DAY] {
        defer(&server, HOUR, b"deferred");
        requeue(&server, &mut consumer, HOUR);
        machine.clocks.pass(HALF);
        machine.clocks.set_wall(wall);
        drop(consumer);
        server.stop();
        server = machine.start(|_| ());
        consumer = server.consumer("t", "c", 10);
        assert_eq!(server.channel_stats("c")["deferred_count"], 2, "half of it is left");
        machine.clocks.pass(HALF);
        drop(consumer);
        server.stop();
        server = machine.start(|_| ());
        consumer = server.consumer("t", "c", 10);
        let bodies = sorted(consumer.finish_next(2));
        assert_eq!(bodies, [b"deferred", b"requeued"]);
        consumer.settle();
    }
}

#[test]
fn over_a_boot_delays_go_on_by_the_wall_clock() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let mut consumer = server.consumer("t", "c", 10);
    defer(&server, HOUR, b"deferred");
    requeue(&server, &mut consumer, HOUR);
    drop(consumer);
    server.stop();
    for left in [2, 0] {
        machine.clocks.pass(HALF);
        machine.clocks.boot();
        let server = machine.start(|_| ());
        let mut consumer = server.consumer("t", "c", 10);
        if left > 0 {
            assert_eq!(server.channel_stats("c")["deferred_count"], left);
        } else {
            let bodies = sorted(consumer.finish_next(2));
            assert_eq!(bodies, [b"deferred", b"requeued"]);
        }
        consumer.settle();
    }
}

#[test]
fn over_a_boot_a_clock_that_was_set_before_changes_no_delay() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    server.consumer("t", "c", 0).settle();
    defer(&server, HOUR, b"deferred");
    let node = || machine.disk.files(Path::new(FOLDER)).into_iter().find(is_node_file);
    let before = node();
    machine.clocks.set_wall(machine.clocks.wall() + 30 * DAY);
    eventually(|| node() != before);

    for left in [1, 0] {
        machine.clocks.pass(HALF);
        machine.clocks.boot();
        let server = machine.after(Stop::Kill).start(|_| ());
        if left > 0 {
            assert_eq!(server.channel_stats("c")["deferred_count"], left);
        } else {
            assert_eq!(server.consumer("t", "c", 1).finish_next(1), [b"deferred"]);
        }
    }
}

fn is_node_file((path, _): &(PathBuf, Vec<u8>)) -> bool {
    path == &Path::new(FOLDER).join("node")
}

#[test]
fn a_clock_that_was_ahead_or_behind_makes_nothing_wait_longer_than_was_asked_for() {
    for (was_ahead, reboots) in [(true, true), (true, false), (false, true), (false, false)] {
        let machine = Machine::new();
        let right = machine.clocks.wall();
        machine.clocks.set_wall(if was_ahead { right + 30 * DAY } else { right - 30 * DAY });
        let server = machine.start(|_| ());
        let mut consumer = server.consumer("t", "c", 10);
        defer(&server, MINUTE, b"deferred");
        requeue(&server, &mut consumer, MINUTE);

        let machine = machine.after(Stop::Kill);
        machine.clocks.set_wall(right);
        if reboots {
            machine.clocks.boot();
        }
        let server = machine.start(|_| ());
        machine.clocks.pass(MINUTE);
        let bodies = sorted(server.consumer("t", "c", 10).finish_next(2));
        assert_eq!(bodies, [b"deferred", b"requeued"], "{was_ahead} {reboots}");
    }
}
