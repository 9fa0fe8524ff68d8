//! Answers come in the order of the commands, whatever arrives together.

use nsq_protocol::Command;

use crate::support::{Received, Server};

fn ok() -> Received {
    Received::Response("OK".to_owned())
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.client();
    let refused = |command: &str, id: char| {
        let id = id.to_string().repeat(16);
        Received::Error(format!("E_{command}_FAILED {command} {id} failed ID not in flight"))
    };
    let (mut bytes, mut expected) = (b"SUB t c\n".to_vec(), vec![ok()]);
    for round in 0..50 {
        let id = char::from(b'a' + round % 26);
        let id16 = id.to_string().repeat(16);
        bytes.extend(b"PUB a\n\0\0\0\x01x");
        bytes.extend(format!("FIN {id16}\n").bytes());
        bytes.extend(b"PUB b\n\0\0\0\x01yPUB b\n\0\0\0\x01y");
        bytes.extend(format!("TOUCH {id16}\n").bytes());
        bytes.extend(b"MPUB a\n\0\0\0\x0e\0\0\0\x02\0\0\0\x01a\0\0\0\x01b");
        bytes.extend(format!("REQ {id16} 0\n").bytes());
        bytes.extend(b"DPUB a 5\n\0\0\0\x01xNOP\nRDY 1\n");
        expected.extend([ok(), refused("FIN", id), ok(), ok(), refused("TOUCH", id)]);
        expected.extend([ok(), refused("REQ", id), ok()]);
    }
    bytes.extend(b"PUB a\n\0\0\0\x01xCLS\nNOPE\n");
    expected.extend([ok(), Received::Response("CLOSE_WAIT".to_owned())]);
    expected.push(Received::Error("E_INVALID invalid command NOPE".to_owned()));
    expected.push(Received::Closed);
    client.send_bytes(&bytes);
    for (at, expected) in expected.into_iter().enumerate() {
        assert_eq!(client.receive(), expected, "answer {at}");
    }
}

#[test]
fn refused_fins_are_answered_in_the_order_of_the_fins() {
    let server = Server::start();
    let mut client = server.client();
    client.publish_all("t", &["a", "b", "c", "d"]);
    client.subscribe("t", "c", 4);
    let ids: Vec<_> = client.messages(4).iter().map(|message| message.id).collect();
    // Each twice, the second time in reverse order, with an unknown one in between.
    let unknown = "x".repeat(16);
    let mut bytes = Vec::new();
    for id in ids.iter().chain(ids.iter().rev().take(2)) {
        Command::Fin(*id).encode(&mut bytes);
    }
    bytes.extend(format!("FIN {unknown}\n").bytes());
    for id in ids.iter().rev().skip(2) {
        Command::Fin(*id).encode(&mut bytes);
    }
    client.send_bytes(&bytes);
    let expected = [ids[3].to_string(), ids[2].to_string(), unknown, ids[1].to_string()];
    for id in expected.into_iter().chain([ids[0].to_string()]) {
        assert_eq!(client.error(), format!("E_FIN_FAILED FIN {id} failed ID not in flight"));
    }
    assert_eq!(server.channel_stats("c")["clients"][0]["finish_count"], 4);
}

#[test]
fn bytes_that_come_one_at_a_time_mean_the_same() {
    let server = Server::start();
    let mut client = server.client();
    let mut bytes =
        b"IDENTIFY\n\0\0\0\x02{}SUB t c\r\nNOP\nRDY 1\nPUB t extra\n\0\0\0\x05hello".to_vec();
    bytes.extend(b"MPUB u\r\n\0\0\0\x0e\0\0\0\x02\0\0\0\x01a\0\0\0\x01bDPUB u 0\n\0\0\0\x02hi");
    for byte in bytes {
        client.send_bytes(&[byte]);
    }
    let mut answers = 0;
    while answers < 5 {
        match client.receive() {
            Received::Message(message) => {
                assert_eq!(message.body, b"hello");
                client.fin(message.id);
            }
            other => {
                assert_eq!(other, ok());
                answers += 1;
            }
        }
    }
}

#[test]
fn what_was_published_before_a_mistake_is_kept() {
    let server = Server::start();
    let mut client = server.client();
    client.send_bytes(b"PUB t\n\0\0\0\x01aPUB t\n\0\0\0\x01bPUB t$\nPUB t\n\0\0\0\x01c");
    assert_eq!((client.receive(), client.receive()), (ok(), ok()));
    assert_eq!(client.error(), "E_BAD_TOPIC PUB topic name \"t$\" is not valid");
    client.expect_closed();
    assert_eq!(server.consumer("t", "c", 10).finish_next(2), [b"a", b"b"]);
    assert_eq!(server.topic_stats()["message_count"], 2);
}

#[test]
fn a_client_that_ends_its_stream_still_gets_its_answers() {
    let server = Server::start();
    let mut client = server.client();
    client.send_bytes(&b"PUB t\n\0\0\0\x01x".repeat(1000));
    client.end_stream();
    for _ in 0..1000 {
        assert_eq!(client.receive(), ok());
    }
    client.expect_closed();
    assert_eq!(server.topic_stats()["depth"], 1000);
}

#[test]
fn answers_and_messages_share_a_connection_without_mixing() {
    let server = Server::start();
    let mut client = server.consumer("t", "c", 2500);
    let body = vec![b'm'; 3000];
    for _ in 0..20 {
        for _ in 0..50 {
            client.send(Command::Pub { topic: "t", body: &body });
        }
        let (mut answers, mut messages) = (0, 0);
        while answers < 50 || messages < 50 {
            match client.receive() {
                Received::Message(message) => {
                    assert_eq!(message.body, body);
                    client.fin(message.id);
                    messages += 1;
                }
                other => {
                    assert_eq!(other, ok());
                    answers += 1;
                }
            }
        }
    }
}

#[test]
fn after_cls_the_rest_is_finished_and_nothing_more_comes() {
    let server = Server::start();
    let mut client = server.client();
    client.publish_all("t", &["a", "b", "c", "d"]);
    client.subscribe("t", "c", 3);
    let held = client.messages(3);
    client.send(Command::Cls);
    assert_eq!(client.receive(), Received::Response("CLOSE_WAIT".to_owned()));
    // RDY is ignored now.
    client.send_bytes(b"RDY 10\nRDY x\nRDY 99999\nRDY\n");
    client.fin(held[0].id);
    client.req(held[1].id, 0);
    client.send(Command::Touch(held[2].id));
    client.fin(held[2].id);
    client.settle();
    client.publish("t", b"e");
    let stats = server.channel_stats("c");
    let client_stats = &stats["clients"][0];
    assert_eq!((&client_stats["state"], &client_stats["ready_count"]), (&4.into(), &0.into()));
    assert_eq!((&client_stats["finish_count"], &stats["depth"]), (&2.into(), &3.into()));
    let mut bodies = server.consumer("t", "c", 10).finish_next(3);
    bodies.sort();
    assert_eq!(bodies, [b"b", b"d", b"e"]);
}
