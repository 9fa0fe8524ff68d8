//! A fake nsqlookupd, which names channels for every hostile topic or never says a word about it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::json;

use crate::failure::Failure;

/// The answers of a fake nsqlookupd to questions about hostile topics. Those about others, and
/// registrations, are answered as by an honest one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// It names this many channels.
    Names(usize),
    /// It takes the question and never answers.
    Silent,
}

/// The beginning of the names of hostile topics.
const TOPIC: &str = "topic=hostile";

/// A running fake nsqlookupd. Dropping it stops it.
pub(super) struct Lookupd {
    /// The address at which nsqd registers.
    pub(super) tcp: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptors: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl Lookupd {
    /// Starts a fake nsqlookupd on free ports.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(super) fn start(manner: Manner) -> Result<Self, Failure> {
        let (tcp, registry) = listen().map_err(Failure::io("start an nsqlookupd"))?;
        let (http, questions) = listen().map_err(Failure::io("start an nsqlookupd"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let registered = move |stream| {
            // A connection that breaks needs no answer.
            thread::spawn(move || drop(register(stream, http.port())));
        };
        let asked = move |stream| {
            thread::spawn(move || drop(name_channels(&stream, manner)));
        };
        let acceptors = vec![
            (tcp, accept(registry, Arc::clone(&stop), registered)),
            (http, accept(questions, Arc::clone(&stop), asked)),
        ];
        Ok(Self { tcp, stop, acceptors })
    }
}

impl Drop for Lookupd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (address, acceptor) in self.acceptors.drain(..) {
            // A connection wakes the acceptor; if there can be none, it has stopped already.
            if TcpStream::connect(address).is_ok() {
                let _ = acceptor.join();
            }
        }
    }
}

fn listen() -> io::Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((listener.local_addr()?, listener))
}

fn accept(
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    mut visit: impl FnMut(TcpStream) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Ok(stream) = stream {
                visit(stream);
            }
        }
    })
}

/// Takes registrations until the connection ends.
fn register(stream: TcpStream, http_port: u16) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut commands = BufReader::new(stream);
    commands.read_exact(&mut [0; 4])?;
    let identity = json!({
        "tcp_port": 0, "http_port": http_port, "version": "1.3.0",
        "hostname": "fake", "broadcast_address": "127.0.0.1",
    })
    .to_string();
    let mut line = String::new();
    while commands.read_line(&mut line)? > 0 {
        if line == "IDENTIFY\n" {
            let mut size = [0; 4];
            commands.read_exact(&mut size)?;
            let size = u64::from(u32::from_be_bytes(size));
            io::copy(&mut (&mut commands).take(size), &mut io::sink())?;
            answer(&mut answers, identity.as_bytes())?;
        } else {
            answer(&mut answers, b"OK")?;
        }
        line.clear();
    }
    Ok(())
}

fn answer(answers: &mut TcpStream, data: &[u8]) -> io::Result<()> {
    let size = u32::try_from(data.len()).map_err(io::Error::other)?;
    answers.write_all(&[&size.to_be_bytes()[..], data].concat())
}

/// Serves one HTTP request: sends the names of channels, or nothing if it is silent about that topic.
fn name_channels(mut stream: &TcpStream, manner: Manner) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let is_hostile = lines.next().transpose()?.is_some_and(|line| line.contains(TOPIC));
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let channels = match manner {
        _ if !is_hostile => 0,
        Manner::Names(channels) => channels,
        Manner::Silent => {
            // Waits until the one who asked gives up.
            lines.next();
            return Ok(());
        }
    };
    let names: Vec<_> = (0..channels).map(|index| format!("named_{index}")).collect();
    let body = json!({ "channels": names, "producers": [] }).to_string();
    let head = "HTTP/1.1 200 OK\r\nX-NSQ-Content-Type: nsq; version=1.0\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_answered_and_a_question_gets_the_names() {
        let lookupd = Lookupd::start(Manner::Names(2)).unwrap();
        let mut stream = TcpStream::connect(lookupd.tcp).unwrap();
        stream.write_all(b"  V1IDENTIFY\n\0\0\0\x02{}REGISTER t c\n").unwrap();
        let mut size = [0; 4];
        stream.read_exact(&mut size).unwrap();
        let mut identity = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut identity).unwrap();
        let mut ok = [0; 6];
        stream.read_exact(&mut ok).unwrap();
        assert_eq!(&ok, b"\0\0\0\x02OK");

        let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
        let port = u16::try_from(identity["http_port"].as_u64().unwrap()).unwrap();
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let named = crate::http::request(address, "GET", "/channels?topic=hostile_1").unwrap();
        assert!(String::from_utf8(named).unwrap().contains(r#"["named_0","named_1"]"#));
        let honest = crate::http::request(address, "GET", "/channels?topic=t").unwrap();
        assert!(String::from_utf8(honest).unwrap().contains(r#""channels":[]"#));
    }
}
