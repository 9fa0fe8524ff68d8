//! The figures of a channel.

use nsq_broker::Counters;

use crate::support::{A, Bench, MSG_TIMEOUT, seconds};

#[test]
fn counters_tell_what_has_happened_to_messages() {
    let mut bench = Bench::with(10, 4);
    bench.take(A);
    bench.finish(A, 0..2);
    bench.requeue(A, 2, seconds(0)).unwrap();
    bench.wait(MSG_TIMEOUT);
    assert_eq!(bench.take(A), Some((2..4, 2)));
    let counters = Counters { deliveries: 6, finishes: 2, requeues: 1, timeouts: 1 };
    assert_eq!(bench.channel.counters(), counters);
    bench.channel.remove_client(A, true);
    assert_eq!(bench.channel.counters(), Counters { requeues: 3, ..counters });
}

#[test]
fn the_oldest_message_is_ready_or_in_flight_but_never_deferred() {
    let mut bench = Bench::new();
    assert_eq!(bench.channel.oldest(), None);
    bench.publish_deferred(4, vec![(0..1, seconds(1000))]);
    bench.client(A, 2);
    assert_eq!(bench.channel.oldest(), Some(1));
    bench.take(A);
    assert_eq!(bench.channel.oldest(), Some(1), "in flight");
    bench.requeue(A, 1, seconds(0)).unwrap();
    assert_eq!(bench.channel.oldest(), Some(1), "requeued");
    bench.requeue(A, 2, seconds(30)).unwrap();
    bench.take(A);
    bench.take(A);
    bench.finish(A, 1..2);
    assert_eq!(bench.channel.oldest(), Some(3), "2 is deferred");
    bench.finish(A, 3..4);
    assert_eq!(bench.channel.oldest(), None, "all that is left is deferred");
    bench.wait(seconds(30));
    assert_eq!(bench.channel.oldest(), Some(2), "2 is due");
}
