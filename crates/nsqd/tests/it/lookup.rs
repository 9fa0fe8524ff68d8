//! nsqd as a client of nsqlookupd.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
};

use nsq_protocol::v1::{Command, Decoded, Phase, decode_command, encode_response};

use crate::support::{PATIENCE, Received, Server, http};

/// An nsqlookupd that does as it is told and writes down what it hears.
struct Lookupd {
    address: SocketAddr,
    heard: Receiver<String>,
}

impl Lookupd {
    /// `channels` are those it says every topic has.
    fn start(channels: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let http_port = serve_channels(channels);
        let (hears, heard) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let hears = hears.clone();
                // A thread that ends with an error ends with its test.
                std::thread::spawn(move || serve_nsqd(stream.unwrap(), http_port, &hears));
            }
        });
        Self { address, heard }
    }

    /// The next thing it hears, which must be this.
    fn expect(&self, what: &str) {
        assert_eq!(self.heard.recv_timeout(PATIENCE).unwrap(), what);
    }

    fn expect_identify(&self) -> serde_json::Value {
        let heard = self.heard.recv_timeout(PATIENCE).unwrap();
        let body = heard.strip_prefix("IDENTIFY ").unwrap_or_else(|| panic!("{heard}"));
        serde_json::from_str(body).unwrap()
    }
}

fn serve_nsqd(mut stream: TcpStream, http_port: u16, hears: &Sender<String>) -> Option<()> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).ok()?;
    assert_eq!(&magic, b"  V1");
    let (mut input, mut phase) = (Vec::new(), Phase::Connected);
    loop {
        match decode_command(&input, phase) {
            Decoded::Command(command, used) => {
                let (heard, answer) = match command {
                    Command::Identify(body) => {
                        phase = Phase::Identified;
                        let info = format!(
                            r#"{{"broadcast_address":"127.0.0.1","http_port":{http_port},"tcp_port":1,"version":"1"}}"#
                        );
                        (format!("IDENTIFY {}", String::from_utf8_lossy(body)), info)
                    }
                    other => {
                        let mut line = Vec::new();
                        other.encode(&mut line);
                        (String::from_utf8(line).unwrap().trim_end().to_owned(), "OK".to_owned())
                    }
                };
                input.drain(..used);
                let mut out = Vec::new();
                encode_response(answer.as_bytes(), &mut out);
                stream.write_all(&out).ok()?;
                hears.send(heard).ok()?;
            }
            Decoded::Incomplete { .. } => {
                let mut chunk = [0; 4096];
                let read = stream.read(&mut chunk).ok()?;
                if read == 0 {
                    // A test may not wait for it.
                    let _ = hears.send("end of stream".to_owned());
                    return None;
                }
                input.extend_from_slice(&chunk[..read]);
            }
            Decoded::Rejected(error) => panic!("{error}"),
        }
    }
}

/// Answers every HTTP request with these channels.
fn serve_channels(channels: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let body = serde_json::json!({ "channels": channels }).to_string();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    port
}

fn announcing_to(lookupds: &[&Lookupd]) -> Server {
    Server::with(|options| {
        options.broadcast_address = "here".to_owned();
        options.lookupd_tcp_addresses =
            lookupds.iter().map(|lookupd| lookupd.address.to_string()).collect();
    })
}

#[test]
fn a_topic_and_its_channels_are_registered_as_they_come_and_go() {
    let lookupd = Lookupd::start(&[]);
    let server = announcing_to(&[&lookupd]);
    let identity = lookupd.expect_identify();
    assert_eq!(identity["broadcast_address"], "here");
    assert_eq!(identity["tcp_port"], server.tcp.port());
    assert_eq!(identity["http_port"], server.http.port());
    assert!(["hostname", "version"].iter().all(|key| identity[key].is_string()), "{identity}");
    server.post("/topic/create?topic=t");
    lookupd.expect("REGISTER t");
    server.post("/channel/create?topic=t&channel=c");
    lookupd.expect("REGISTER t c");
    server.post("/channel/create?topic=t&channel=d%23ephemeral");
    lookupd.expect("REGISTER t d#ephemeral");
    server.post("/channel/delete?topic=t&channel=c");
    lookupd.expect("UNREGISTER t c");
    server.post("/topic/delete?topic=t");
    lookupd.expect("UNREGISTER t d#ephemeral");
    lookupd.expect("UNREGISTER t");
}

#[test]
fn a_nsqlookupd_that_comes_later_is_told_everything() {
    let (first, later) = (Lookupd::start(&[]), Lookupd::start(&[]));
    let server = announcing_to(&[&first]);
    first.expect_identify();
    server.post("/topic/create?topic=plain");
    first.expect("REGISTER plain");
    server.post("/topic/create?topic=t");
    first.expect("REGISTER t");
    server.post("/channel/create?topic=t&channel=c");
    first.expect("REGISTER t c");
    let addresses = serde_json::json!([later.address.to_string()]).to_string();
    let (status, body) =
        http(server.http, "PUT", "/config/nsqlookupd_tcp_addresses", addresses.as_bytes());
    assert_eq!((status, String::from_utf8(body).unwrap()), (200, addresses));
    later.expect_identify();
    later.expect("REGISTER plain");
    // The channel brings its topic along.
    later.expect("REGISTER t c");
    first.expect("end of stream");
}

#[test]
fn a_new_topic_gets_the_channels_it_has_elsewhere_before_its_first_message() {
    let lookupd = Lookupd::start(&["kept", "gone#ephemeral"]);
    let server = announcing_to(&[&lookupd]);
    lookupd.expect_identify();
    server.client().publish("t", b"first");
    let mut consumer = server.consumer("t", "kept", 1);
    assert_eq!(consumer.message().body, b"first");
    let stats = server.stats();
    let channels = stats["topics"][0]["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 1, "{channels:?}");
    assert_eq!(stats["topics"][0]["paused"], false);
}

#[test]
fn a_nsqlookupd_that_is_away_or_says_nothing_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::with(|options| {
        options.lookupd_tcp_addresses =
            vec![silent.local_addr().unwrap().to_string(), nobody.to_string()];
    });
    // It has connected, and waits for an answer that does not come.
    let (_connection, _) = silent.accept().unwrap();
    let mut client = server.client();
    client.publish("t", b"message");
    let mut consumer = server.consumer("t", "c", 1);
    assert_eq!(consumer.message().body, b"message");
    server.stop();
    assert_eq!(client.receive(), Received::Closed);
}
