//! nsqd under a service manager.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::Path,
    process::{Command as Process, Stdio},
};

use nsq_protocol::Command;
use rustix::process::Signal;

use super::{Service, SocketClient, certificate, folder, get, tcp_path};
use crate::support::{Client, PATIENCE};

/// The service manager's end of the notifications.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self::on(UnixDatagram::bind(path).unwrap())
    }

    fn on(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next notification.
    fn hear(&self) -> String {
        let mut text = [0; 4096];
        let size = self.0.recv(&mut text).unwrap();
        String::from_utf8(text[..size].to_vec()).unwrap()
    }

    /// Waits for a notification with this line.
    fn expect(&self, line: &str) -> String {
        loop {
            let heard = self.hear();
            if heard.lines().any(|heard| heard == line) {
                return heard;
            }
        }
    }
}

fn notifying(folder: &Path, socket: impl AsRef<std::ffi::OsStr>) -> Process {
    let mut command = Service::command(folder);
    command.env("NOTIFY_SOCKET", socket);
    command.arg("-tcp-address").arg(tcp_path(folder)).args(["-http-address", ""]);
    command
}

#[test]
fn the_manager_hears_of_the_start_the_reload_and_the_stop() {
    let folder = folder();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let nsqd = Service::spawn(&mut notifying(folder.path(), &path));
    assert_eq!(manager.hear(), "STATUS=Recovering topics\nEXTEND_TIMEOUT_USEC=30000000");
    assert_eq!(manager.hear(), "READY=1\nSTATUS=Serving");
    SocketClient::connect(&tcp_path(folder.path())).ok(Command::Pub { topic: "t", body: b"x" });
    nsqd.signal(Signal::HUP);
    let reloading = manager.hear();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    assert_eq!(manager.hear(), "READY=1\nSTATUS=Serving");
    nsqd.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=Stopping");
    assert_eq!(nsqd.ended().0.code(), Some(0));
}

#[test]
fn a_manager_with_an_abstract_name_is_told_too() {
    let folder = folder();
    // Unique on the machine, as the name of the folder is.
    let name = folder.path().display().to_string();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::on(UnixDatagram::bind_addr(&address).unwrap());
    let nsqd = Service::spawn(&mut notifying(folder.path(), format!("@{name}")));
    manager.expect("READY=1");
    nsqd.stop();
}

#[test]
fn the_watchdog_is_fed_while_nsqd_runs_and_only_if_it_is_its_own() {
    let folder = folder();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let mut command = notifying(folder.path(), &path);
    let nsqd = Service::spawn(command.env("WATCHDOG_USEC", "20000"));
    manager.expect("READY=1");
    for _ in 0..5 {
        assert_eq!(manager.hear(), "WATCHDOG=1");
    }
    nsqd.stop();

    fs::remove_file(&path).unwrap();
    let manager = Manager::at(&path);
    let nsqd = Service::spawn(command.env("WATCHDOG_USEC", "1").env("WATCHDOG_PID", "1"));
    manager.expect("READY=1");
    nsqd.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=Stopping");
    nsqd.ended();
}

#[test]
fn a_manager_that_has_gone_does_not_matter() {
    let folder = folder();
    let mut command = notifying(folder.path(), folder.path().join("nobody"));
    let mut nsqd = Service::spawn(command.env("WATCHDOG_USEC", "2000"));
    nsqd.wait_for("TCP: listening on ");
    SocketClient::connect(&tcp_path(folder.path())).ok(Command::Pub { topic: "t", body: b"x" });
    nsqd.stop();
}

#[test]
fn a_manager_whose_name_makes_no_sense_is_not_told_and_nsqd_starts() {
    let folder = folder();
    let mut nsqd = Service::spawn(&mut notifying(folder.path(), format!("@{}", "x".repeat(200))));
    nsqd.wait_for("WARNING: the service manager will not be notified - ");
    nsqd.wait_for("TCP: listening on ");
    nsqd.stop();
}

/// Starts nsqd with two sockets that are open already, as descriptors 3 and 4.
fn activate(folder: &Path, names: Option<&str>, first: OwnedFd, second: OwnedFd) -> Service {
    activate_with(folder, &[], names, first, second)
}

fn activate_with(
    folder: &Path,
    args: &[String],
    names: Option<&str>,
    first: OwnedFd,
    second: OwnedFd,
) -> Service {
    let mut command = activation(folder, args, names);
    Service::spawn_with(&mut command, Stdio::from(first), Stdio::from(second))
}

fn activation(folder: &Path, args: &[String], names: Option<&str>) -> Process {
    let script = r#"exec 3<&0 4<&1 0</dev/null 1>&2; export LISTEN_PID=$$; exec "$0" "$@""#;
    let mut command = Process::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_nsqd"), "-data-path"]).arg(folder);
    // Neither address is used: the second is in use, and a port below 1 is none.
    command.args(["-tcp-address", "/nowhere/tcp", "-http-address", "127.0.0.1:99999"]);
    command.args(args);
    command.env("LISTEN_FDS", "2").env_remove("LISTEN_FDNAMES");
    if let Some(names) = names {
        command.env("LISTEN_FDNAMES", names);
    }
    command
}

#[test]
fn sockets_that_the_manager_has_opened_are_used_by_name() {
    let folder = folder();
    let (tcp, http) = (TcpListener::bind("127.0.0.1:0").unwrap(), folder.path().join("passed"));
    let address = tcp.local_addr().unwrap();
    let passed = UnixListener::bind(&http).unwrap();
    // A connection that waits since before the start is served.
    let mut early = Client::connect(address);
    let nsqd = activate(folder.path(), Some("http:tcp"), passed.into(), tcp.into());
    early.publish("t", b"early");
    let info = get(&http, "/info");
    assert_eq!((&info["tcp_port"], &info["http_port"]), (&address.port().into(), &(-1).into()));
    let log = nsqd.stop();
    assert!(log.contains(&format!("TCP: listening on {address}\n")), "{log}");
    // The manager's file is the manager's.
    assert!(http.exists());
}

#[test]
fn sockets_without_a_name_are_used_in_order_and_others_reported() {
    let folder = folder();
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    for names in [None, Some("nsqd.socket:nsqd.socket")] {
        let (tcp, http) = (bind(), bind());
        let (address, http_address) = (tcp.local_addr().unwrap(), http.local_addr().unwrap());
        let nsqd = activate(folder.path(), names, tcp.into(), http.into());
        Client::connect(address).publish("t", b"x");
        let mut stream = TcpStream::connect(http_address).unwrap();
        stream.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
        nsqd.stop();
    }
    let script = activate(folder.path(), Some("tcp:spare"), bind().into(), bind().into());
    let (status, log) = script.ended();
    // The HTTP address of the options is used then, which is none.
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.ends_with("address 99999: invalid port\n"), "{log}");
}

#[test]
fn a_socket_for_https_is_used_with_a_certificate_and_must_be_a_port() {
    let folder = folder();
    let mut args = certificate(folder.path()).to_vec();
    args.push("-http-address=".to_owned());
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (tcp, https) = (bind(), bind());
    let listening = format!("HTTPS: listening on {}", https.local_addr().unwrap());
    let names = Some("https:tcp");
    let mut nsqd = activate_with(folder.path(), &args, names, https.into(), tcp.into());
    nsqd.wait_for(&listening);
    nsqd.stop();

    let unix = UnixListener::bind(folder.path().join("passed")).unwrap();
    let nsqd = activate_with(folder.path(), &args, names, unix.into(), bind().into());
    let (status, log) = nsqd.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    let reason = "listen (inherited https socket) failed - a unix socket cannot be used here\n";
    assert!(log.ends_with(reason), "{log}");
}

#[test]
fn a_passed_descriptor_that_does_not_listen_is_one_clear_line() {
    let folder = folder();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let nsqd = activate(folder.path(), Some("http:tcp"), tcp.into(), connected.into());
    let (status, log) = nsqd.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    let reason = "listen (inherited tcp socket) failed - not a listening socket";
    assert!(log.ends_with(&format!("failed to instantiate nsqd - {reason}\n")), "{log}");
}

#[test]
fn more_passed_descriptors_than_there_are_sockets_are_one_clear_line() {
    // The first that is not passed is nsqd's own, or is none.
    for count in ["3", "1000000", "4294967295"] {
        let folder = folder();
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = activation(folder.path(), &[], None);
        command.env("LISTEN_FDS", count);
        let (tcp, http) = (OwnedFd::from(bind()), OwnedFd::from(bind()));
        let nsqd = Service::spawn_with(&mut command, Stdio::from(tcp), Stdio::from(http));
        let (status, log) = nsqd.ended();
        assert_eq!(status.code(), Some(1), "{log}");
        let reason = "sockets of the service manager: descriptor 5 is not a socket\n";
        assert!(log.ends_with(reason), "{log}");
    }
}

/// The values of a key in a unit file.
fn values(unit: &str, key: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let text = fs::read_to_string(folder.join(unit)).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(found, _)| *found == key).map(|(_, value)| value.to_owned()).collect()
}

#[test]
fn the_unit_files_agree_with_nsqd() {
    let exec = values("nsqd.service", "ExecStart").concat();
    let args = exec.split(' ').skip(1);
    let options = nsqd::Options::table().parse(args).unwrap();
    let options = nsqd::Options::from_parsed(&options).unwrap();
    let patience: u64 = values("nsqd.service", "TimeoutStopSec").concat().parse().unwrap();
    assert!(patience > options.shutdown_timeout.as_secs());
    let ports = [&options.tcp_address, &options.http_address];
    let ports = ports.map(|address| address.rsplit_once(':').unwrap().1);
    assert_eq!(values("nsqd.socket", "ListenStream"), ports);
    for unit in ["nsqd.service", "nsqlookupd.service"] {
        assert_eq!(values(unit, "Type"), ["notify"]);
    }
}
