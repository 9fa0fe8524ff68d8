//! Stopping, whatever the clients are doing.

use std::{io::Write, net::TcpStream, thread};

use nsq_protocol::Command;
use rustix::process::Signal;

use crate::support::{Client, NsqdProcess, Received};

/// Clients in every state that could hold up a stop.
fn clients(nsqd: &NsqdProcess) -> (Vec<Client>, Vec<TcpStream>) {
    let mut clients = vec![Client::silent(nsqd.tcp), nsqd.client()];
    let mut half_magic = Client::silent(nsqd.tcp);
    half_magic.send_bytes(b"  ");
    let mut half_command = nsqd.client();
    half_command.send_bytes(b"PUB t\n\x00\x00\x01\x00half a bo");
    let mut half_closed = nsqd.client();
    half_closed.end_stream();
    clients.extend([half_magic, half_command, half_closed]);
    clients.push(nsqd.consumer("idle", "c", 10));

    // One that does not read what it is sent, until there is no room for more.
    let deaf = nsqd.consumer("deaf", "c", 2500);
    nsqd.client().publish_all("deaf", &vec![vec![b'x'; 20_000]; 200]);
    // One that holds a message.
    let mut holder = nsqd.consumer("held", "c", 10);
    nsqd.client().publish("held", b"x");
    holder.message();
    clients.extend([deaf, holder]);

    let requests = [
        "",
        "GET /pi",
        "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf a bo",
        "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    let open = |request: &&str| {
        let mut stream = TcpStream::connect(nsqd.http).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    (clients, requests.iter().map(open).collect())
}

#[test]
fn it_stops_in_order_whatever_its_clients_do() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let mut nsqd = NsqdProcess::start(folder.path(), &[]);
        let clients = clients(&nsqd);
        let mut producer = nsqd.client();
        let mut consumer = nsqd.consumer("busy", "c", 100);
        let acknowledged = thread::scope(|scope| {
            let (started, seen) = std::sync::mpsc::channel();
            let producing = scope.spawn(move || publish_until_closed(&mut producer));
            let consuming = scope.spawn(move || {
                let mut finished = 0_u64;
                while let Ok(Received::Message(message)) = consumer.try_receive() {
                    finished += 1;
                    if finished == 100 {
                        started.send(()).unwrap();
                    }
                    let mut bytes = Vec::new();
                    Command::Fin(message.id).encode(&mut bytes);
                    if consumer.stream.write_all(&bytes).is_err() {
                        break;
                    }
                }
                finished
            });
            seen.recv().unwrap();
            nsqd.signal(signal);
            // A second one changes nothing.
            nsqd.signal(signal);
            let (code, log) = nsqd.ended();
            assert_eq!(code, Some(0), "{signal:?}\n{log}");
            assert!(log.contains("INFO: NSQ: bye"), "{log}");
            assert!(!log.contains("did not end"), "{log}");
            (producing.join().unwrap(), consuming.join().unwrap())
        });
        drop(clients);
        expect_all(folder.path(), acknowledged.0, acknowledged.1);
    }
}

/// How many messages were acknowledged before nsqd closed the connection.
fn publish_until_closed(producer: &mut Client) -> u64 {
    let mut acknowledged = 0;
    loop {
        let mut bytes = Vec::new();
        Command::Pub { topic: "busy", body: b"x" }.encode(&mut bytes);
        if producer.stream.write_all(&bytes).is_err() {
            return acknowledged;
        }
        match producer.try_receive() {
            Ok(Received::Response(_)) => acknowledged += 1,
            _ => return acknowledged,
        }
    }
}

/// What was acknowledged and not finished is there after a restart.
fn expect_all(folder: &std::path::Path, acknowledged: u64, finished: u64) {
    let nsqd = NsqdProcess::start(folder, &[]);
    let stats = nsqd.stats();
    let topics = stats["topics"].as_array().unwrap();
    let depth = |name: &str| {
        let topic = topics.iter().find(|topic| topic["topic_name"] == name).unwrap();
        topic["channels"][0]["depth"].as_u64().unwrap()
    };
    assert_eq!((depth("deaf"), depth("held")), (200, 1));
    // One was perhaps not answered any more; what was delivered last was perhaps not finished any more.
    assert!(depth("busy") + finished >= acknowledged);
    let (code, log) = nsqd.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("WARNING"), "{log}");
}
