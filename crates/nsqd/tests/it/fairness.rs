//! Who gets how much, and who has to wait for whom.

use std::{collections::BTreeMap, io::Write, time::Duration};

use nsqd::Options;

use crate::{
    support::{Server, eventually},
    test_clocks::TestClocks,
};

#[test]
fn a_burst_is_shared_among_idle_consumers() {
    let server = Server::start();
    let mut consumers: Vec<_> = (0..10).map(|_| server.consumer("t", "c", 100)).collect();
    for consumer in &mut consumers {
        consumer.settle();
    }
    server.client().publish_all("t", &["x"; 100]);
    eventually(|| server.channel_stats("c")["in_flight_count"] == 100);
    let shares: Vec<_> = consumers.iter_mut().map(|consumer| consumer.drain().len()).collect();
    assert_eq!(shares, [10; 10]);
}

#[test]
fn a_burst_goes_to_those_who_have_room() {
    let server = Server::start();
    let mut consumers: Vec<_> =
        [5, 1, 0, 200].into_iter().map(|ready| server.consumer("t", "c", ready)).collect();
    for consumer in &mut consumers {
        consumer.settle();
    }
    server.client().publish_all("t", &["x"; 100]);
    eventually(|| server.channel_stats("c")["in_flight_count"] == 100);
    let shares: Vec<_> = consumers.iter_mut().map(|consumer| consumer.drain().len()).collect();
    assert_eq!(shares, [5, 1, 0, 94]);
}

#[test]
fn single_messages_go_round_among_idle_consumers() {
    let server = Server::start();
    let mut consumers: Vec<_> = (0..4).map(|_| server.consumer("t", "c", 100)).collect();
    for consumer in &mut consumers {
        consumer.settle();
    }
    let mut producer = server.client();
    for published in 1..=40 {
        producer.publish("t", b"x");
        eventually(|| server.channel_stats("c")["in_flight_count"] == published);
    }
    for consumer in &mut consumers {
        let share = consumer.drain().len();
        assert!((5..=15).contains(&share), "{share}");
    }
}

#[test]
fn a_message_requeued_in_a_loop_does_not_starve_new_ones() {
    let server = Server::start();
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 1);
    producer.publish("t", b"poison");
    let poison = consumer.message();
    producer.publish_all("t", &["x"; 50]);
    consumer.req(poison.id, 0);
    let mut finished = 0;
    let mut poisoned = 0;
    while finished < 50 {
        let message = consumer.message();
        if message.id == poison.id {
            poisoned += 1;
            assert!(poisoned <= 60, "{poisoned} deliveries of one before {finished} others");
            consumer.req(message.id, 0);
        } else {
            finished += 1;
            consumer.fin(message.id);
        }
    }
}

#[test]
fn new_messages_do_not_starve_requeued_ones() {
    let server = Server::start();
    server.client().publish_all("t", &["x"; 1000]);
    let mut consumer = server.consumer("t", "c", 1);
    let first = consumer.message();
    consumer.req(first.id, 0);
    let position = (0..1000).position(|_| {
        let message = consumer.message();
        consumer.fin(message.id);
        message.id == first.id
    });
    assert!(position.unwrap() <= 2, "{position:?}");
}

#[test]
fn a_consumer_that_stops_reading_does_not_hold_back_others() {
    let server = Server::start();
    let body = vec![b'x'; 10_000];
    let mut producer = server.client();
    let mut deaf = server.consumer("t", "c", 2500);
    deaf.settle();
    // More than the sockets between can hold.
    producer.publish_all("t", &vec![&body; 400]);
    for _ in 0..4 {
        producer.publish_all("t", &vec![&body; 400]);
    }
    let mut reader = server.consumer("t", "c", 2500);
    let mut finished = 0;
    let all_handed_out = |finished: u64| {
        let channel = server.channel_stats("c");
        channel["depth"] == 0 && finished + channel["in_flight_count"].as_u64().unwrap() >= 2000
    };
    while !all_handed_out(finished) {
        let message = reader.message();
        reader.fin(message.id);
        finished += 1;
    }
    assert!(finished >= 500, "{finished}");
    // The deaf client got as much as sockets and nsqd hold for it, not as much as its ready count allows.
    reader.drain();
    let clients = server.channel_stats("c")["clients"].as_array().unwrap().clone();
    let held = clients.iter().map(|client| client["in_flight_count"].as_u64().unwrap()).max();
    assert!(held < Some(1500), "{held:?}");
    producer.publish("t", b"small");
}

#[test]
fn what_a_consumer_cannot_take_goes_to_others() {
    let server = Server::start();
    let mut busy = server.consumer("t", "c", 10);
    busy.settle();
    let mut idle = server.consumer("t", "c", 10);
    idle.settle();
    // Publishes without reading answers, until nsqd stops reading from it.
    let mut voice = busy.stream.try_clone().unwrap();
    voice.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let bytes = b"PUB u\n\0\0\0\x01x".repeat(10_000);
    let taken = || {
        let stats = server.stats();
        let topics = stats["topics"].as_array().unwrap();
        let topic = topics.iter().find(|topic| topic["topic_name"] == "u");
        topic.map(|topic| topic["message_count"].clone())
    };
    // A socket that is full may be read from again, unless others are served meanwhile and it is not.
    loop {
        while voice.write(&bytes).is_ok() {}
        let before = taken();
        (0..20).for_each(|_| drop(server.stats()));
        if taken() == before && voice.write(&bytes).is_err() {
            break;
        }
    }
    for _ in 0..4 {
        server.client().publish("t", b"x");
        assert_eq!(idle.finish_next(1), [b"x"]);
    }
}

#[test]
fn a_deaf_consumer_is_dropped_and_its_messages_come_to_others() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    let body = vec![b'x'; 100_000];
    let mut deaf = server.client();
    deaf.identify("{\"heartbeat_interval\":1000}");
    deaf.subscribe("t", "c", 2500);
    deaf.settle();
    let mut producer = server.client();
    for _ in 0..5 {
        producer.publish_all("t", &vec![&body; 40]);
    }
    // It goes on sending, so it is not for silence that it is dropped.
    let mut voice = deaf.stream.try_clone().unwrap();
    let talking = std::thread::spawn(move || {
        while voice.write_all(b"NOP\n").is_ok() {
            std::thread::yield_now();
        }
    });
    eventually(|| server.channel_stats("c")["client_count"] == 0);
    talking.join().unwrap();
    // Its messages time out.
    clocks.pass(Options::default().msg_timeout);
    let mut reader = server.consumer("t", "c", 100);
    let mut attempts = BTreeMap::new();
    while attempts.len() < 200 {
        let message = reader.message();
        reader.fin(message.id);
        attempts.insert(message.id.to_string(), message.attempts);
    }
    assert!(attempts.values().any(|attempts| *attempts == 1));
    assert!(attempts.values().any(|attempts| *attempts == 2));
}
