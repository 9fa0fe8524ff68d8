//! Many clients at once, coming and going.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nsq_protocol::Command;

use crate::{
    support::{Client, Received, Server, eventually, http},
    test_clocks::TestClocks,
};

#[test]
fn two_hundred_connections_at_once_are_served() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..200).map(|_| Client::silent(server.tcp)).collect();
    for client in &mut clients {
        client.send_bytes(b"  V2");
    }
    for (i, client) in clients.iter_mut().enumerate() {
        client.subscribe("t", "c", 2);
        client.send(Command::Pub { topic: &format!("own{}", i % 20), body: b"x" });
    }
    for client in &mut clients {
        assert_eq!(client.receive(), Received::Response("OK".to_owned()));
        client.settle();
    }
    assert_eq!(server.stats()["topics"].as_array().unwrap().len(), 21);
    server.client().publish_all("t", &vec!["x"; 400]);
    for client in &mut clients {
        assert_eq!(client.finish_next(2).len(), 2);
    }
    drop(clients);
    let none_left = || {
        let stats = server.stats();
        let topics = stats["topics"].as_array().unwrap();
        let topic = topics.iter().find(|topic| topic["topic_name"] == "t").unwrap();
        topic["channels"][0]["client_count"] == 0 && topic["channels"][0]["depth"] == 0
    };
    eventually(none_left);
    server.client().publish("t", b"still here");
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let server = Server::start();
    let mut producer = server.client();
    for _ in 0..100 {
        let mut client = server.consumer("t", "c", 5);
        producer.publish("t", b"x");
        assert_eq!(client.finish_next(1), [b"x"]);
        // Or the next message might go to it still.
        client.send(Command::Rdy(0));
        client.settle();
    }
    eventually(|| server.channel_stats("c")["client_count"] == 0);
    let channel = server.channel_stats("c");
    assert_eq!((&channel["depth"], &channel["in_flight_count"]), (&0.into(), &0.into()));
}

#[test]
fn what_is_ephemeral_never_goes_under_a_client_that_has_just_come() {
    let server = Server::start();
    let come_and_go = |topic: &'static str| {
        let tcp = server.tcp;
        thread::spawn(move || {
            for _ in 0..150 {
                let mut client = Client::connect(tcp);
                client.publish(topic, b"x");
                client.subscribe(topic, "c#ephemeral", 0);
                // A client that was closed with the channel would not get this answer.
                client.settle();
            }
        })
    };
    let topics = ["t", "t", "e#ephemeral", "e#ephemeral"];
    for thread in topics.map(come_and_go) {
        thread.join().unwrap();
    }
    eventually(|| server.stats()["topics"].as_array().unwrap().len() == 1);
    assert_eq!(server.topic_stats()["channels"].as_array().unwrap().len(), 0);
}

#[test]
fn a_topic_deleted_again_and_again_keeps_what_is_published_between() {
    let server = Server::start();
    let http_address = server.http;
    let delete = || {
        thread::spawn(move || {
            let (status, _) = http(http_address, "POST", "/topic/delete?topic=t", b"");
            assert!(status == 200 || status == 404, "{status}");
        })
    };
    for round in 0..40 {
        let deletions = [delete(), delete(), delete()];
        for deletion in deletions {
            deletion.join().unwrap();
        }
        let body = [round];
        server.client().publish("t", &body);
        assert_eq!(server.consumer("t", "c", 1).finish_next(1), [body]);
    }
}

/// Consumes one channel until told to stop, finishing most, requeueing some and forgetting a few.
fn consume(
    server: &Server,
    channel: &'static str,
    seen: Arc<Mutex<Vec<u32>>>,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let mut client = server.consumer("t", channel, 40);
    thread::spawn(move || {
        client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut turn = 0_u32;
        let mut in_doubt = None;
        while !stop.load(Ordering::Relaxed) {
            let message = match client.try_receive() {
                Ok(Received::Message(message)) => message,
                Ok(Received::Error(text)) if text.starts_with("E_TOUCH_FAILED TOUCH x") => {
                    // The FIN before it was not refused.
                    seen.lock().unwrap().extend(in_doubt.take());
                    continue;
                }
                Ok(Received::Error(text)) if text.starts_with("E_FIN_FAILED") => {
                    in_doubt = None;
                    continue;
                }
                Ok(Received::Closed) => panic!("closed"),
                Ok(_) => {
                    client.send(Command::Nop);
                    continue;
                }
                Err(_) => continue,
            };
            turn += 1;
            match turn % 16 {
                0 => client.req(message.id, 0),
                1 => client.req(message.id, 5),
                2 => {}
                3 => client.send(Command::Touch(message.id)),
                _ if in_doubt.is_none() => {
                    in_doubt = Some(u32::from_be_bytes(*message.body.first_chunk().unwrap()));
                    client.fin(message.id);
                    client.send_bytes(b"TOUCH xxxxxxxxxxxxxxxx\n");
                }
                _ => client.req(message.id, 0),
            }
        }
    })
}

#[test]
fn among_many_at_once_each_channel_finishes_each_message_once() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |options| {
        options.msg_timeout = Duration::from_millis(50);
        options.mem_queue_size = 50;
        options.max_bytes_per_file = 64 << 10;
    });
    let channels = ["a", "b", "c#ephemeral"];
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut finished = Vec::new();
    for channel in channels {
        let seen = Arc::new(Mutex::new(Vec::new()));
        finished.push(seen.clone());
        threads.extend((0..3).map(|_| consume(&server, channel, seen.clone(), stop.clone())));
    }
    let next = Arc::new(AtomicU64::new(0));
    let (tcp, count) = (server.tcp, 600);
    let produce = |_| {
        let next = next.clone();
        thread::spawn(move || {
            let mut client = Client::connect(tcp);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let body = &u32::try_from(number).unwrap().to_be_bytes();
                match number % 7 {
                    0 => client.ok(Command::DeferredPub { topic: "t", delay_ms: 3, body }),
                    _ => client.publish("t", body),
                }
            }
        })
    };
    let producers: Vec<_> = (0..3).map(produce).collect();
    for _ in 0..10 {
        for action in [
            "topic/pause?topic=t",
            "channel/pause?topic=t&channel=a",
            "topic/unpause?topic=t",
            "channel/unpause?topic=t&channel=a",
        ] {
            server.post(&format!("/{action}"));
            clocks.pass_ms(10);
        }
    }
    for producer in producers {
        producer.join().unwrap();
    }
    let left = |channel: &str| {
        let stats = server.channel_stats(channel);
        ["depth", "in_flight_count", "deferred_count"].map(|figure| stats[figure].as_u64().unwrap())
    };
    let mut before = None;
    // An ephemeral channel drops what it has no room for, so it may have fewer.
    eventually(|| {
        let now = channels.map(left);
        // Time passes when nothing else happens, or consumers on a busy machine would always be too late.
        if before.replace(now) == Some(now) {
            clocks.pass_ms(50);
        }
        now == [[0; 3]; 3]
    });
    // The answers to the last FINs are on their way.
    eventually(|| finished[..2].iter().all(|seen| seen.lock().unwrap().len() as u64 >= count));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let expected: Vec<_> = (0..u32::try_from(count).unwrap()).collect();
    for seen in &finished[..2] {
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert!(seen == expected);
    }
    let mut ephemeral = finished[2].lock().unwrap().clone();
    let total = ephemeral.len();
    ephemeral.sort_unstable();
    ephemeral.dedup();
    assert_eq!(ephemeral.len(), total);
}
