//! Work that is too much for one turn: the other connections of the thread are served meanwhile.

use std::{
    iter,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nsq_protocol::{Command, encode_multi_pub};
use nsqd::World;

use crate::{
    held_disk::{Call, HeldDisk},
    support::{Client, Received, Server, eventually, http, metric},
};

/// As many messages of one byte as the limits allow, nearly.
const MANY: usize = 1_000_000;
/// More than one turn takes.
const MORE_THAN_A_TURN: usize = 10_000;

fn start() -> (HeldDisk, Server) {
    let disk = HeldDisk::default();
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let server = Server::in_world(world, tempfile::tempdir().unwrap(), |_| ());
    for topic in ["bulk", "t", "idle"] {
        server.post(&format!("/topic/create?topic={topic}"));
        server.post(&format!("/channel/create?topic={topic}&channel=c"));
    }
    (disk, server)
}

fn ok() -> Received {
    Received::Response("OK".to_owned())
}

fn threads() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// Clients on every thread that serves connections.
fn everywhere(server: &Server) -> Vec<Client> {
    (0..threads()).map(|_| server.client()).collect()
}

/// Waits until everything that the client has sent was acted on.
fn settle(client: &mut Client) {
    client.publish("idle", b"x");
}

/// The next client of the thread that has the newest one, if the other threads have one client less.
fn beside(server: &Server, crowd: &mut Vec<Client>) -> Client {
    crowd.extend((1..threads()).map(|_| server.client()));
    // Those before have been assigned once they are answered.
    crowd.iter_mut().for_each(settle);
    server.client()
}

fn counted(count: usize) -> Vec<u8> {
    let mut command = Vec::new();
    encode_multi_pub("bulk", &vec![b"x"; count], &mut command);
    // The body of an `/mpub` is that of the command without its size.
    command.split_off(b"MPUB bulk\n".len() + 4)
}

fn lines(count: usize) -> Vec<u8> {
    b"x\n".repeat(count)
}

fn mpub(address: SocketAddr, query: &'static str, body: Vec<u8>) -> JoinHandle<(u16, Vec<u8>)> {
    let target = format!("/mpub?topic=bulk{query}");
    thread::spawn(move || http(address, "POST", &target, &body))
}

fn message_count(server: &Server, topic: &str) -> u64 {
    let (status, stats) =
        http(server.http, "GET", &format!("/stats?format=json&topic={topic}"), b"");
    assert_eq!(status, 200);
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    stats["topics"][0]["message_count"].as_u64().unwrap()
}

#[test]
fn a_million_messages_in_one_command_hold_up_no_other_connection() {
    let (disk, server) = start();
    let held = disk.hold_in("bulk.topic", &[Call::Write]);
    let mut hostile = server.client();
    let mut command = Vec::new();
    encode_multi_pub("bulk", &vec![b"x"; MANY], &mut command);
    hostile.send_bytes(&command);
    held.wait_for(Call::Write, "bulk.topic", 1);
    // They publish to the same topic, and wait.
    let mut waiting = everywhere(&server);
    for client in &mut waiting {
        client.send(Command::Pub { topic: "bulk", body: b"y" });
    }
    for mut neighbour in everywhere(&server) {
        neighbour.publish("t", b"z");
    }
    assert_eq!(message_count(&server, "bulk"), 0, "all or nothing");
    drop(held);
    assert_eq!(hostile.receive(), ok());
    waiting.iter_mut().for_each(|client| assert_eq!(client.receive(), ok()));
    assert_eq!(message_count(&server, "bulk"), (MANY + threads()) as u64);
    // The connection goes on.
    hostile.publish("t", b"z");
}

#[test]
fn a_million_messages_in_one_request_hold_up_nobody_else() {
    let (disk, server) = start();
    let held = disk.hold_in("bulk.topic", &[Call::Write]);
    let first = mpub(server.http, "&binary=true", counted(MANY));
    held.wait_for(Call::Write, "bulk.topic", 1);
    let others = [
        mpub(server.http, "", lines(MANY)),
        mpub(server.http, "&binary=true", counted(MORE_THAN_A_TURN)),
        mpub(server.http, "", lines(1)),
    ];
    // Those that are large wait for their topic.
    let reached = r#"nsqd_limit_reached_total{limit="bulk-publishes"}"#;
    eventually(|| metric(server.http, reached) > 0);
    for mut neighbour in everywhere(&server) {
        neighbour.publish("t", b"z");
    }
    server.post("/topic/create?topic=another");
    // They do not keep large publishes from other topics.
    let other_topic = http(server.http, "POST", "/mpub?topic=t", &lines(MORE_THAN_A_TURN));
    assert_eq!(other_topic, (200, b"OK".to_vec()));
    drop(held);
    for done in iter::once(first).chain(others) {
        assert_eq!(done.join().unwrap(), (200, b"OK".to_vec()));
    }
    assert_eq!(message_count(&server, "bulk"), (2 * MANY + MORE_THAN_A_TURN + 1) as u64);
}

#[test]
fn of_many_messages_none_is_published_if_one_is_wrong() {
    let (_, server) = start();
    let mut body = counted(MORE_THAN_A_TURN);
    let last = body.len() - 5;
    body[last..last + 4].copy_from_slice(&0_u32.to_be_bytes());
    let refused = mpub(server.http, "&binary=true", body.clone()).join().unwrap();
    assert_eq!(refused, (413, br#"{"message":"BAD_MESSAGE"}"#.to_vec()));
    let mut client = server.client();
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    client.send_bytes(&[b"MPUB bulk\n".as_slice(), &size, &body].concat());
    let error = format!("E_BAD_MESSAGE MPUB invalid message({}) body size 0", MORE_THAN_A_TURN - 1);
    assert_eq!(client.receive(), Received::Error(error));
    assert_eq!(message_count(&server, "bulk"), 0);
}

#[test]
fn many_messages_are_answered_and_delivered_in_the_order_of_the_commands() {
    let (_, server) = start();
    let mut client = server.client();
    let mut commands = Vec::new();
    Command::Pub { topic: "bulk", body: b"before" }.encode(&mut commands);
    encode_multi_pub("bulk", &vec![b"x"; MORE_THAN_A_TURN], &mut commands);
    Command::Pub { topic: "bulk", body: b"behind" }.encode(&mut commands);
    client.send_bytes(&commands);
    (0..3).for_each(|_| assert_eq!(client.receive(), ok()));
    let mut consumer = server.consumer("bulk", "c", 2500);
    let bodies: Vec<_> = (0..MORE_THAN_A_TURN + 2)
        .map(|_| {
            let message = consumer.message();
            consumer.fin(message.id);
            message.body
        })
        .collect();
    assert_eq!((&bodies[0][..], &bodies[1][..]), (&b"before"[..], &b"x"[..]));
    assert_eq!(bodies[MORE_THAN_A_TURN + 1], b"behind");
}

#[test]
fn a_run_of_small_commands_gives_way_to_the_other_connections_of_its_thread() {
    let (disk, server) = start();
    let mut crowd = Vec::new();
    let mut hostile = server.client();
    // Such a client reads as much as it can at once.
    hostile.send_bytes(&b"NOP\n".repeat(1 << 18));
    settle(&mut hostile);
    let mut neighbour = beside(&server, &mut crowd);
    settle(&mut neighbour);
    let mut witness = beside(&server, &mut crowd);
    settle(&mut witness);
    let held = disk.hold_in("bulk.topic", &[Call::Write]);
    let bulk = mpub(server.http, "", lines(MORE_THAN_A_TURN));
    held.wait_for(Call::Write, "bulk.topic", 1);
    // Both wait for the bulk, and go on in the same moment.
    let waits = |client: &mut Client, run: usize, body: &[u8]| {
        let mut commands = Vec::new();
        Command::Pub { topic: "t", body: b"ready" }.encode(&mut commands);
        Command::Pub { topic: "bulk", body: b"x" }.encode(&mut commands);
        commands.extend(b"NOP\n".repeat(run));
        Command::Pub { topic: "t", body }.encode(&mut commands);
        client.send_bytes(&commands);
        assert_eq!(client.receive(), ok());
    };
    waits(&mut hostile, MORE_THAN_A_TURN, b"last");
    waits(&mut neighbour, 0, b"first");
    settle(&mut witness);
    drop(held);
    for client in [&mut hostile, &mut neighbour] {
        (0..2).for_each(|_| assert_eq!(client.receive(), ok()));
    }
    let bodies = server.consumer("t", "c", 10).messages(4).into_iter().map(|message| message.body);
    let bodies: Vec<_> = bodies.collect();
    assert_eq!(bodies, [&b"ready"[..], b"ready", b"first", b"last"]);
    assert_eq!(bulk.join().unwrap().0, 200);
}

#[test]
fn a_run_of_refused_commands_is_answered_whole_and_in_order() {
    let (_, server) = start();
    let mut client = server.consumer("t", "c", 0);
    let mut commands = Vec::new();
    for number in 0..MORE_THAN_A_TURN {
        commands.extend(format!("FIN {number:016x}\n").into_bytes());
    }
    client.send_bytes(&commands);
    for number in 0..MORE_THAN_A_TURN {
        let Received::Error(error) = client.receive() else { panic!("no error") };
        assert!(error.starts_with(&format!("E_FIN_FAILED FIN {number:016x} failed")), "{error}");
    }
    client.settle();
}
