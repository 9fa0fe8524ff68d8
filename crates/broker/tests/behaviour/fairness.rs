use std::time::Duration;

use nsq_broker::{ClientId, Distance};

use crate::support::{A, B, Bench, C, seconds};

/// One of several things that have the same effect.
type Way = (&'static str, fn(&mut Bench));

fn idle_clients(count: u64, ready: u64) -> (Bench, Vec<ClientId>) {
    let mut bench = Bench::new();
    let clients: Vec<ClientId> = (1..=count).map(ClientId).collect();
    for &id in &clients {
        bench.idle_client(id, ready);
    }
    (bench, clients)
}

#[test]
fn a_burst_is_shared_among_idle_clients_in_whatever_order_they_come() {
    for order in [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [9, 3, 8, 0, 1, 7, 2, 6, 5, 4]] {
        let (mut bench, clients) = idle_clients(10, 2_500);
        bench.publish(100);
        assert_eq!(bench.woken(), clients);
        for index in order {
            assert_eq!(bench.take_all(clients[index]), 10);
        }
        assert_eq!(bench.woken(), []);
    }
}

#[test]
fn a_burst_that_comes_in_pieces_is_shared_as_well() {
    let (mut bench, clients) = idle_clients(10, 2_500);
    for _ in 0..100 {
        bench.publish(1);
    }
    assert_eq!(bench.woken(), clients, "each is woken once");
    for id in clients {
        assert_eq!(bench.take_all(id), 10);
    }
}

#[test]
fn a_burst_that_is_not_consecutive_is_shared_as_well() {
    let (mut bench, clients) = idle_clients(4, 100);
    let deferred = (0..40).filter(|seq| seq % 2 == 1).map(|seq| (seq..seq + 1, seconds(9)));
    bench.publish_deferred(40, deferred.collect());
    for id in clients {
        assert_eq!(bench.take_all(id), 5);
    }
}

#[test]
fn a_share_is_bounded_by_what_a_client_wants_and_the_rest_goes_to_others() {
    let mut bench = Bench::new();
    for (id, ready) in [(A, 2), (B, 100), (C, 7)] {
        bench.idle_client(id, ready);
    }
    bench.publish(30);
    assert_eq!(bench.take_all(A), 2);
    assert_eq!(bench.take_all(C), 7);
    assert_eq!(bench.take_all(B), 21);
}

#[test]
fn no_more_clients_are_called_than_there_are_messages() {
    let (mut bench, clients) = idle_clients(10, 50);
    bench.publish(3);
    assert_eq!(bench.woken(), &clients[..3]);
    bench.publish(2);
    assert_eq!(bench.woken(), &clients[3..5], "waiting clients come before those woken before");
}

#[test]
fn a_client_that_was_not_called_does_not_take_what_is_reserved() {
    let (mut bench, _) = idle_clients(1, 50);
    bench.client(B, 50);
    bench.publish(8);
    assert_eq!(bench.take(B), None);
    assert!(bench.channel.park(B));
    assert_eq!(bench.take_all(A), 8);
}

#[test]
fn a_busy_client_takes_what_nobody_waits_for() {
    let mut bench = Bench::with(100, 60);
    bench.client(B, 60);
    assert_eq!(bench.take_all(A), 60);
    assert_eq!(bench.take_all(B), 40);
}

#[test]
fn what_a_called_client_leaves_goes_to_those_who_wait() {
    let leave: [Way; 4] = [
        ("removed", |bench| _ = bench.channel.remove_client(A, false)),
        ("lowered", |bench| bench.ready(A, 0)),
        ("short", |bench| _ = bench.take_up_to(A, 2)),
        ("released", |bench| bench.channel.release(A)),
    ];
    for (how, leave) in leave {
        let (mut bench, _) = idle_clients(1, 10);
        bench.publish(6);
        assert_eq!(bench.woken(), [A]);
        bench.idle_client(B, 10);
        leave(&mut bench);
        assert_eq!(bench.woken(), [B], "{how}");
        let taken = if how == "short" { 2 } else { 0 };
        assert_eq!(bench.take(B), Some((taken..6, 1)), "{how}");
    }
}

#[test]
fn a_client_that_takes_all_it_is_offered_keeps_the_rest_of_its_share() {
    let (mut bench, _) = idle_clients(2, 10);
    bench.publish_deferred(9, vec![(2..3, seconds(9))]);
    assert_eq!(bench.woken(), [A, B]);
    assert_eq!(bench.take(A), Some((0..2, 1)));
    assert_eq!(bench.take_all(B), 4);
    assert_eq!(bench.take_all(A), 2);
}

#[test]
fn a_client_is_not_parked_while_something_is_there_for_it() {
    let mut bench = Bench::with(1, 1);
    assert!(!bench.channel.park(A));
    bench.take(A);
    assert!(bench.channel.park(A));
    assert!(bench.channel.park(A), "parking twice is parking once");
    bench.publish(1);
    bench.finish(A, 0..1);
    assert_eq!(bench.woken(), [A]);
}

#[test]
fn a_client_without_spare_ready_count_is_called_when_it_gets_some() {
    let ways: [Way; 4] = [
        ("finish", |bench| _ = bench.finish(A, 0..1)),
        ("requeue", |bench| bench.requeue(A, 0, Duration::ZERO).unwrap()),
        ("ready", |bench| bench.ready(A, 2)),
        ("timeout", |bench| bench.wait(seconds(60))),
    ];
    for (how, way) in ways {
        let mut bench = Bench::with(2, 1);
        assert_eq!(bench.take_all(A), 1);
        assert_eq!(bench.woken(), []);
        way(&mut bench);
        assert_eq!(bench.woken(), [A], "{how}");
    }
}

#[test]
fn a_called_client_that_wants_more_shares_in_what_comes_later() {
    let (mut bench, _) = idle_clients(2, 1);
    bench.publish(4);
    assert_eq!(bench.woken(), [A, B]);
    bench.ready(A, 10);
    assert_eq!(bench.take_all(A), 3);
    assert_eq!(bench.take_all(B), 1);
}

#[test]
fn pausing_takes_back_what_was_reserved() {
    let (mut bench, _) = idle_clients(2, 10);
    bench.publish(1);
    assert_eq!(bench.woken(), [A]);
    bench.channel.pause();
    assert_eq!(bench.take(A), None);
    assert!(bench.channel.park(A));
    bench.channel.unpause();
    assert_eq!(bench.woken(), [B], "it waits for longer");
}

/// A channel with three idle clients, from far to near.
fn scattered_clients(ready: u64) -> Bench {
    let mut bench = Bench::new();
    bench.distant_client(A, ready, Distance::Global);
    bench.distant_client(B, ready, Distance::Region);
    bench.distant_client(C, ready, Distance::Zone);
    bench
}

#[test]
fn nearer_clients_are_served_first_and_others_get_the_rest() {
    let mut bench = scattered_clients(5);
    for _ in 0..7 {
        bench.publish(1);
    }
    assert_eq!(bench.woken(), [C, B]);
    assert_eq!((bench.take_all(C), bench.take_all(B)), (5, 2));
    bench.publish(10);
    assert_eq!(bench.woken(), [B, A]);
    assert_eq!((bench.take_all(B), bench.take_all(A)), (3, 5));
    let counts = [Distance::Zone, Distance::Region, Distance::Global]
        .map(|distance| bench.channel.delivery_count(distance));
    assert_eq!(counts, [5, 5, 5]);
}

#[test]
fn a_burst_for_near_clients_is_shared_among_them() {
    let mut bench = scattered_clients(100);
    bench.distant_client(ClientId(4), 100, Distance::Zone);
    bench.publish(50);
    assert_eq!(bench.woken(), [C, ClientId(4)]);
    assert_eq!((bench.take_all(C), bench.take_all(ClientId(4))), (25, 25));
}

#[test]
fn a_far_client_takes_what_nobody_near_waits_for() {
    let mut bench = scattered_clients(5);
    bench.ready(C, 0);
    bench.ready(B, 0);
    bench.publish(3);
    assert_eq!(bench.woken(), [A]);
    assert_eq!(bench.take_all(A), 3);
}

#[test]
fn a_waiting_client_that_moves_is_served_at_its_new_distance() {
    let mut bench = scattered_clients(5);
    bench.distant_client(A, 5, Distance::Zone);
    bench.distant_client(C, 5, Distance::Global);
    bench.publish(1);
    assert_eq!(bench.woken(), [A]);
}
