//! Unix sockets in place of ports.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
};

use nsq_protocol::Command;
use rustix::process::Signal;

use crate::{
    layers::{Certificates, Peer, TLS_VERSIONS},
    support::eventually,
};

use super::{Service, SocketClient, folder, get, http_path, tcp_path};

#[test]
fn messages_and_requests_go_over_unix_sockets_and_their_files_go_with_nsqd() {
    let folder = folder();
    let (tcp, http) = (tcp_path(folder.path()), http_path(folder.path()));
    let nsqd = Service::on_sockets(folder.path(), &[]).wait_until_served();
    assert!(nsqd.log.contains(&format!("TCP: listening on {}\n", tcp.display())), "{}", nsqd.log);

    let mut client = SocketClient::connect(&tcp);
    client.ok(Command::Sub { topic: "t", channel: "c" });
    client.send(Command::Rdy(1));
    SocketClient::connect(&tcp).ok(Command::Pub { topic: "t", body: b"hello" });
    assert_eq!(client.receive().as_deref(), Some(&b"hello"[..]));

    let stats = get(&http, "/stats?format=json");
    let shown = &stats["topics"][0]["channels"][0]["clients"][0];
    assert_eq!(shown["remote_address"], "@");
    assert_eq!((&shown["client_id"], &shown["hostname"]), (&"".into(), &"".into()));

    let info = get(&http, "/info");
    assert_eq!((&info["tcp_port"], &info["http_port"]), (&(-1).into(), &(-1).into()));
    for port in ["broadcast_tcp_port", "broadcast_http_port"] {
        assert_eq!(get(&http, &format!("/config/{port}")), 0);
    }
    // Connections that have said nothing hold up nothing.
    let _silent = [UnixStream::connect(&tcp).unwrap(), UnixStream::connect(&http).unwrap()];
    let log = nsqd.stop();
    assert!(log.contains("TCP: new client(@)"), "{log}");
    assert!(log.contains(&format!("HTTP: closing {}\n", http.display())), "{log}");
    assert!(!tcp.exists() && !http.exists());
    assert_eq!(client.receive(), None);
}

#[tokio::test]
async fn connections_over_unix_sockets_are_upgraded_too() {
    let (folder, certificates) = (folder(), Certificates::new());
    let [cert, key] = ["server.pem", "server.key"]
        .map(|name| certificates.path(name).into_os_string().into_string().unwrap());
    let args = ["-https-address=", "-tls-cert", &cert, "-tls-key", &key, "-tls-required=tcp-https"];
    let nsqd = Service::on_sockets(folder.path(), &args).wait_until_served();
    let tls = certificates.connector(&TLS_VERSIONS, None);
    for fields in [r#""tls_v1":true"#, r#""tls_v1":true,"deflate":true"#] {
        let stream = tokio::net::UnixStream::connect(tcp_path(folder.path())).await.unwrap();
        let mut peer = Peer::over(stream).await.upgrade(fields, Some(&tls)).await;
        peer.publish("t", b"hello").await;
        peer.subscribe("t", "c", 1).await;
        assert_eq!(peer.finish_next().await.body, b"hello");
    }
    nsqd.stop();
}

#[test]
fn broadcast_ports_that_were_given_stand_for_a_unix_socket() {
    let folder = folder();
    let ports = ["-broadcast-tcp-port=5150", "-broadcast-http-port=5151"];
    let nsqd = Service::on_sockets(folder.path(), &ports).wait_until_served();
    let http = http_path(folder.path());
    assert_eq!(get(&http, "/config/broadcast_tcp_port"), 5150);
    assert_eq!(get(&http, "/config/broadcast_http_port"), 5151);
    assert_eq!(get(&http, "/info")["tcp_port"], -1);
    nsqd.stop();
}

#[test]
fn a_port_and_a_unix_socket_go_together() {
    let folder = folder();
    let mut command = Service::command(folder.path());
    command
        .args(["-tcp-address", "127.0.0.1:0"])
        .arg("-http-address")
        .arg(http_path(folder.path()));
    let nsqd = Service::spawn(&mut command).wait_until_served();
    let info = get(&http_path(folder.path()), "/info");
    assert!(info["tcp_port"].as_i64().unwrap() > 0, "{info}");
    assert_eq!(info["http_port"], -1);
    nsqd.stop();
}

#[test]
fn a_socket_in_use_is_one_clear_line_and_its_user_goes_on() {
    let (first, second) = (folder(), folder());
    let tcp = tcp_path(first.path());
    let nsqd = Service::on_sockets(first.path(), &[]).wait_until_served();
    let mut command = Service::command(second.path());
    command.arg("-tcp-address").arg(&tcp).args(["-http-address", ""]);
    let (status, log) = Service::spawn(&mut command).ended();
    assert_eq!(status.code(), Some(1), "{log}");
    let reason = "failed - bind: address already in use";
    let fatal =
        format!("FATAL: failed to instantiate nsqd - listen ({}) {reason}\n", tcp.display());
    assert!(log.ends_with(&fatal), "{log}");
    SocketClient::connect(&tcp).ok(Command::Pub { topic: "t", body: b"x" });
    nsqd.stop();
}

#[test]
fn sockets_that_a_killed_nsqd_left_do_not_keep_the_next_from_starting() {
    let folder = folder();
    let tcp = tcp_path(folder.path());
    let nsqd = Service::on_sockets(folder.path(), &[]).wait_until_served();
    SocketClient::connect(&tcp).ok(Command::Pub { topic: "t", body: b"kept" });
    nsqd.signal(Signal::KILL);
    nsqd.ended();
    assert!(tcp.exists());
    let nsqd = Service::on_sockets(folder.path(), &[]).wait_until_served();
    let mut client = SocketClient::connect(&tcp);
    client.ok(Command::Sub { topic: "t", channel: "c" });
    client.send(Command::Rdy(1));
    assert_eq!(client.receive().as_deref(), Some(&b"kept"[..]));
    nsqd.stop();
}

#[test]
fn a_start_that_fails_removes_its_sockets_and_nothing_else() {
    let folder = folder();
    let (tcp, http) = (tcp_path(folder.path()), http_path(folder.path()));
    let _in_use = UnixListener::bind(&http).unwrap();
    let (status, log) = Service::on_sockets(folder.path(), &[]).ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(!tcp.exists() && http.exists());
    // A file that is no socket is never removed either.
    fs::write(&tcp, "").unwrap();
    let (status, _) = Service::on_sockets(folder.path(), &[]).ended();
    assert_eq!(status.code(), Some(1));
    assert!(tcp.exists());
}

/// The IDENTIFY that nsqd sends on a connection to an nsqlookupd.
fn identity(stream: TcpStream) -> serde_json::Value {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "  V1IDENTIFY\n");
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut body = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn nsqlookupd_is_told_no_ports_for_unix_sockets_unless_they_were_given() {
    let lookupd = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("-lookupd-tcp-address={}", lookupd.local_addr().unwrap());
    for (tcp, http) in [(0, 0), (5150, 0), (5150, 5151)] {
        let folder = folder();
        let ports = [format!("-broadcast-tcp-port={tcp}"), format!("-broadcast-http-port={http}")];
        let nsqd = Service::on_sockets(folder.path(), &[&address, &ports[0], &ports[1]]);
        let told = identity(lookupd.accept().unwrap().0);
        assert_eq!((&told["tcp_port"], &told["http_port"]), (&tcp.into(), &http.into()));
        let log = nsqd.stop();
        for (flag, port) in [("--broadcast-tcp-port", tcp), ("--broadcast-http-port", http)] {
            let warned = log.contains(&format!("set {flag} to announce this one"));
            assert_eq!(warned, port == 0, "{log}");
        }
    }
}

#[test]
fn an_nsqlookupd_on_unix_sockets_knows_the_nsqd_that_announces_itself_there() {
    let folder = folder();
    let (tcp, http) = (folder.path().join("lookup.sock"), folder.path().join("lookup-http.sock"));
    let options = nsqlookupd::Options {
        tcp_address: tcp.display().to_string(),
        http_address: http.display().to_string(),
        ..nsqlookupd::Options::default()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let lookupd = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let logger = nsq_daemon::log::Logger::discard();
            let lookupd = nsqlookupd::Nsqlookupd::start(options, logger).await.unwrap();
            lookupd.run(async { drop(stopped.await) }).await.unwrap();
        });
    });
    eventually(|| http.exists());
    let address = format!("-lookupd-tcp-address={}", tcp.display());
    let ports = ["-broadcast-tcp-port=5150", "-broadcast-http-port=5151"];
    let args = [&address, ports[0], ports[1]];
    let nsqd = Service::on_sockets(folder.path(), &args).wait_until_served();
    let known = || get(&http, "/nodes")["producers"][0]["tcp_port"] == 5150;
    eventually(known);
    nsqd.stop();
    drop(stop);
    lookupd.join().unwrap();
    assert!(!tcp.exists() && !http.exists());
}
