//! Backlogs that are no longer in memory.

use nsq_protocol::Command;
use nsqd::Options;

use crate::support::{Client, Message, Server};

/// Next to nothing stays in memory, and files are small.
fn forgetful(options: &mut Options) {
    options.mem_queue_size = 0;
    options.mem_bytes = 1;
    options.max_bytes_per_file = 256 << 10;
}

fn body(i: u32) -> Vec<u8> {
    let mut body = i.to_be_bytes().to_vec();
    body.resize(4 + (i as usize * 37) % 900, b'x');
    body
}

/// Publishes `count` messages in batches of different sizes.
fn publish(server: &Server, count: u32) {
    let mut producer = server.client();
    let mut next = 0;
    while next < count {
        let batch = (1 + next % 97).min(count - next);
        let bodies: Vec<_> = (next..next + batch).map(body).collect();
        producer.publish_all("t", &bodies);
        next += batch;
    }
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().unwrap())
}

#[test]
fn what_is_not_in_memory_is_counted_as_such() {
    let server = Server::with(|options| options.mem_queue_size = 10);
    publish(&server, 1000);
    let topic = server.topic_stats();
    assert_eq!(topic["depth"], 1000);
    let cold = topic["backend_depth"].as_u64().unwrap();
    assert!((800..1000).contains(&cold), "{cold}");
    let mut consumer = server.consumer("t", "c", 0);
    consumer.settle();
    let channel = server.channel_stats("c");
    assert_eq!((&channel["depth"], &channel["backend_depth"]), (&1000.into(), &cold.into()));
    consumer.send(Command::Rdy(2500));
    assert_eq!(consumer.finish_next(1000).len(), 1000);
    consumer.settle();
    let channel = server.channel_stats("c");
    assert_eq!((&channel["depth"], &channel["backend_depth"]), (&0.into(), &0.into()));
}

#[test]
fn a_cold_backlog_keeps_its_order() {
    for change in [
        forgetful as fn(&mut Options),
        |options| options.mem_bytes = 1,
        |options| {
            options.mem_queue_size = 0;
        },
    ] {
        let server = Server::with(change);
        publish(&server, 5000);
        let mut consumer = server.consumer("t", "c", 200);
        for (i, received) in (0..).zip(consumer.finish_next(5000)) {
            assert!(received == body(i), "message {i}");
        }
        consumer.expect_nothing();
    }
}

#[test]
fn a_consumer_that_keeps_up_is_served_all_the_same() {
    let server = Server::with(forgetful);
    let mut producer = server.client();
    let mut consumer = server.consumer("t", "c", 1);
    for i in 0..300 {
        producer.publish("t", &body(i));
        assert_eq!(consumer.finish_next(1), [body(i)]);
    }
}

#[test]
fn channels_far_apart_read_the_same_log() {
    let server = Server::with(forgetful);
    let mut behind = server.consumer("t", "behind", 0);
    let mut ahead = server.consumer("t", "ahead", 500);
    publish(&server, 3000);
    let expected: Vec<_> = (0..3000).map(body).collect();
    assert!(ahead.finish_next(3000) == expected);
    behind.send(Command::Rdy(500));
    assert!(behind.finish_next(3000) == expected);
}

#[test]
fn several_consumers_share_a_cold_backlog_without_loss() {
    let server = Server::with(forgetful);
    publish(&server, 4000);
    let consumers: Vec<_> = (0..8).map(|i| server.consumer("t", "c", 1 + i * 7)).collect();
    let consume = |mut consumer: Client| {
        std::thread::spawn(move || {
            let numbers: Vec<_> =
                consumer.finish_next(200).iter().map(|body| number(body)).collect();
            (consumer, numbers)
        })
    };
    let threads: Vec<_> = consumers.into_iter().map(consume).collect();
    let mut seen = Vec::new();
    let mut rest = Vec::new();
    for thread in threads {
        let (consumer, numbers) = thread.join().unwrap();
        seen.extend(numbers);
        rest.push(consumer);
    }
    // What the others hold when they stop finishing is theirs; one takes all the rest.
    let mut last = rest.pop().unwrap();
    for mut consumer in rest {
        consumer.send(Command::Rdy(0));
        for message in consumer.drain() {
            seen.push(number(&message.body));
            consumer.fin(message.id);
        }
    }
    last.send(Command::Rdy(500));
    seen.extend(last.finish_next(4000 - seen.len()).iter().map(|body| number(body)));
    seen.sort_unstable();
    assert!(seen == (0..4000).collect::<Vec<_>>());
}

#[test]
fn cold_messages_come_again_with_their_attempts() {
    let server = Server::with(forgetful);
    publish(&server, 1000);
    let mut consumer = server.consumer("t", "c", 100);
    let held = consumer.messages(100);
    // Every third is requeued, here and there.
    let mut requeued: Vec<_> = held.iter().step_by(3).cloned().collect();
    for message in &held {
        if !requeued.contains(message) {
            consumer.fin(message.id);
        }
    }
    for message in requeued.iter().rev() {
        consumer.req(message.id, 0);
    }
    let mut again = Vec::new();
    let mut fresh = Vec::new();
    while again.len() + fresh.len() < requeued.len() + 900 {
        let message = consumer.message();
        consumer.fin(message.id);
        if message.attempts == 1 {
            fresh.push(message.body);
        } else {
            again.push(message);
        }
    }
    assert!(fresh == (100..1000).map(body).collect::<Vec<_>>());
    again.sort_by_key(|message| number(&message.body));
    for message in &mut requeued {
        message.attempts = 2;
    }
    assert!(again == requeued);
    consumer.expect_nothing();
}

#[test]
fn cold_messages_that_were_deferred_come_at_last() {
    let server = Server::with(forgetful);
    let mut consumer = server.consumer("t", "c", 0);
    let mut producer = server.client();
    for i in 0..300 {
        producer.ok(Command::DeferredPub {
            topic: "t",
            delay_ms: 1 + u64::from(i % 7),
            body: &body(2 * i),
        });
        producer.publish("t", &body(2 * i + 1));
    }
    consumer.send(Command::Rdy(50));
    let mut numbers: Vec<_> = consumer.finish_next(600).iter().map(|body| number(body)).collect();
    numbers.sort_unstable();
    assert!(numbers == (0..600).collect::<Vec<_>>());
}

#[test]
fn big_cold_messages_come_through_whole() {
    let server = Server::with(forgetful);
    let big = |seed: u8| -> Vec<u8> {
        (0..1_u32 << 20).map(|i| (i >> 3).to_le_bytes()[0] ^ seed).collect()
    };
    let mut producer = server.client();
    for seed in 0..6 {
        producer.publish("t", &big(seed));
        producer.publish("t", &[seed]);
    }
    let mut consumer = server.consumer("t", "c", 4);
    for seed in 0..6 {
        let message = consumer.message();
        assert!(message.body == big(seed), "message {seed}");
        consumer.fin(message.id);
        assert_eq!(consumer.finish_next(1), [[seed]]);
    }
    producer.publish("t", &big(9));
    let message = consumer.message();
    consumer.req(message.id, 0);
    assert!(consumer.message() == Message { attempts: 2, ..message });
}

#[test]
fn segments_nobody_needs_are_deleted() {
    let server = Server::with(forgetful);
    publish(&server, 4000);
    let mut consumer = server.consumer("t", "c", 1000);
    assert_eq!(consumer.finish_next(4000).len(), 4000);
    consumer.settle();
    let folder = server.stop();
    let files = walk(&folder.path().join("topics"));
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    // 4000 messages of 450 bytes on average were some 1.9 MB in eight files.
    assert!(bytes < 600 << 10, "{bytes} bytes in {files:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
