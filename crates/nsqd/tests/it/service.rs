//! nsqd as a service of its machine: unix sockets, signals, the service manager.

mod signals;
mod systemd;
mod unix;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command as Process, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
};

use nsq_protocol::{Command, Frame, decode_frame};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{PATIENCE, eventually};

/// An nsqd process with a folder of its own. Its log is followed, not searched for ports.
struct Service {
    child: Child,
    log: String,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts nsqd on unix sockets in `folder`.
    fn on_sockets(folder: &Path, args: &[&str]) -> Self {
        let mut command = Self::command(folder);
        command.arg("-tcp-address").arg(tcp_path(folder));
        command.arg("-http-address").arg(http_path(folder));
        Self::spawn(command.args(args))
    }

    fn command(folder: &Path) -> Process {
        let mut command = Process::new(env!("CARGO_BIN_EXE_nsqd"));
        command.arg("-data-path").arg(folder);
        command
    }

    fn spawn(command: &mut Process) -> Self {
        Self::spawn_with(command, Stdio::null(), Stdio::null())
    }

    fn spawn_with(command: &mut Process, stdin: Stdio, stdout: Stdio) -> Self {
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The command holds what it has passed on.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (said, lines) = channel();
        let reader = std::thread::spawn(move || {
            // The receiver is dropped with a test that has failed.
            stderr.lines().map_while(Result::ok).for_each(|line| {
                let _ = said.send(line);
            });
        });
        Self { child, log: String::new(), lines, reader: Some(reader) }
    }

    /// Waits for the next line of the log that contains `text`.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("{text:?} is not in the log:\n{}", self.log);
            };
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until both sockets are served.
    fn wait_until_served(mut self) -> Self {
        let (first, second) = ("TCP: listening on ", "HTTP: listening on ");
        // The order is left to chance.
        let line = self.wait_for(": listening on ");
        self.wait_for(if line.contains(first) { second } else { first });
        self
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until nsqd has ended; how, and its whole log.
    fn ended(mut self) -> (ExitStatus, String) {
        eventually(|| self.child.try_wait().unwrap().is_some());
        self.reader.take().unwrap().join().unwrap();
        let rest: String = self.lines.iter().map(|line| line + "\n").collect();
        (self.child.wait().unwrap(), std::mem::take(&mut self.log) + &rest)
    }

    /// Asks nsqd to stop and waits until it has, in order; its whole log.
    fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.ended();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended already is no error here, and a failed test leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a certificate and its key; the options that name them.
fn certificate(folder: &Path) -> [String; 2] {
    let CertifiedKey { cert, key_pair } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    [("tls-cert", cert.pem()), ("tls-key", key_pair.serialize_pem())].map(|(option, pem)| {
        let path = folder.join(option.replace("tls-", "") + ".pem");
        fs::write(&path, pem).unwrap();
        format!("-{option}={}", path.display())
    })
}

fn tcp_path(folder: &Path) -> PathBuf {
    folder.join("tcp.sock")
}

fn http_path(folder: &Path) -> PathBuf {
    folder.join("http.sock")
}

/// A client of a unix socket.
struct SocketClient {
    stream: UnixStream,
    input: Vec<u8>,
}

impl SocketClient {
    /// Connects and sends the magic.
    fn connect(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"  V2").unwrap();
        Self { stream, input: Vec::new() }
    }

    fn send(&mut self, command: Command<'_>) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The data of the next frame; of a message, its body. `None` at the end of the stream.
    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((frame, used)) = decode_frame(&self.input, u32::MAX).unwrap() {
                let data = match frame {
                    Frame::Response(data) | Frame::Error(data) => data.to_vec(),
                    Frame::Message(message) => message.body.to_vec(),
                };
                self.input.drain(..used);
                return Some(data);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).unwrap() {
                0 => return None,
                read => self.input.extend_from_slice(&chunk[..read]),
            }
        }
    }

    fn ok(&mut self, command: Command<'_>) {
        self.send(command);
        assert_eq!(self.receive().as_deref(), Some(&b"OK"[..]), "{command:?}");
    }
}

/// One GET over a unix socket; the body of its answer.
fn get(path: &Path, target: &str) -> serde_json::Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    serde_json::from_str(body).unwrap()
}
