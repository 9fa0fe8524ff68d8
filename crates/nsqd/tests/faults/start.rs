//! A start after a kill: the ports answer meanwhile, topics are opened several at a time, and little is read.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use nsq_log::testing::Stop;
use nsqd::World;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName},
};

use crate::{
    held_disk::{Call, HeldDisk},
    machine::Machine,
    support::{PATIENCE, Server, eventually, http},
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

/// Sends a request over TLS, and returns the status and the body of the answer.
fn https(address: SocketAddr, certificate: &CertifiedKey, path: &str) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::clone(certificate.cert.der())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(session, tcp);
    write!(tls, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn https_answers_probes_as_well_while_topics_are_opened() {
    let (disk, folder, address) = (HeldDisk::default(), filled_folder(), free_address());
    let held = disk.hold_in("journal.", &[Call::Read]);
    let world = World { disk: Arc::new(disk.clone()), ..World::default() };
    let certificate = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let [cert, key] =
        [("cert.pem", certificate.cert.pem()), ("key.pem", certificate.key_pair.serialize_pem())]
            .map(|(name, pem)| {
                let path = files.path().join(name);
                fs::write(&path, pem).unwrap();
                path.display().to_string()
            });
    let starting = thread::spawn(move || {
        Server::in_world(world, folder, |options| {
            options.https_address = address.to_string();
            (options.tls.cert, options.tls.key) = (cert, key);
        })
    });
    held.wait_for(Call::Read, "journal.", TOPICS);
    eventually(|| TcpStream::connect(address).is_ok());
    assert_eq!(https(address, &certificate, "/live"), (200, "OK".to_owned()));
    assert_eq!(https(address, &certificate, "/ready"), (503, "NOK - starting".to_owned()));
    drop(held);
    let server = starting.join().unwrap();
    assert_eq!(https(address, &certificate, "/ready"), (200, "OK".to_owned()));
    server.stop();
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
