//! A start after a kill: the ports answer meanwhile, topics are opened several at a time, and little is read.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use nsq_log::testing::Stop;
use nsqd::World;

use crate::{
    held_disk::{Call, HeldDisk},
    machine::Machine,
    support::{Server, eventually, http},
};

const TOPICS: usize = 4;

/// A folder with some topics.
fn filled_folder() -> tempfile::TempDir {
    let server = Server::start();
    let mut producer = server.client();
    (0..TOPICS).for_each(|number| producer.publish(&format!("t{number}"), b"x"));
    server.stop()
}

/// An address that nobody listens on.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn while_several_topics_at_a_time_are_opened_the_ports_answer() {
    let (disk, folder, address) = (HeldDisk::default(), filled_folder(), free_address());
    let held = disk.hold_in("journal.", &[Call::Read]);
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let starting = thread::spawn(move || {
        Server::in_world(world, folder, |options| options.http_address = address.to_string())
    });
    held.wait_for(Call::Read, "journal.", TOPICS);
    eventually(|| TcpStream::connect(address).is_ok());
    assert_eq!(http(address, "GET", "/ping", b""), (503, b"NOK - starting".to_vec()));
    // No probe restarts an nsqd that is starting, and none sends clients to it.
    assert_eq!(http(address, "GET", "/live", b""), (200, b"OK".to_vec()));
    assert_eq!(http(address, "GET", "/ready", b""), (503, b"NOK - starting".to_vec()));
    let (status, body) = http(address, "POST", "/pub?topic=t0", b"x");
    assert_eq!(
        (status, String::from_utf8(body).unwrap()),
        (503, r#"{"message":"STARTING"}"#.to_owned())
    );
    drop(held);
    let server = starting.join().unwrap();
    assert_eq!(http(address, "GET", "/ping", b"").0, 200);
    assert_eq!(server.stats()["topics"].as_array().unwrap().len(), TOPICS);
}

#[test]
fn a_start_after_a_kill_reads_little_of_a_long_log() {
    let machine = Machine::new();
    let server = machine.start(|_| ());
    let mut producer = server.client();
    for topic in ["t", "u"] {
        server.consumer(topic, "c", 0).settle();
        (0..60).for_each(|_| producer.publish(topic, &[b'x'; 500_000]));
    }
    let walked = || {
        let killed = machine.after(Stop::Kill);
        let server = killed.start(|_| ());
        assert_eq!(server.stats()["topics"][1]["channels"][0]["depth"], 60);
        killed.disk.bytes_read()
    };
    // The journal is written in the background.
    eventually(|| walked() < 16 << 20);
}
