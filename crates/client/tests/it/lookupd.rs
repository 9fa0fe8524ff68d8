//! A scripted nsqlookupd.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::soon;

pub(crate) struct Lookupd {
    listener: TcpListener,
    address: String,
}

impl From<TcpListener> for Lookupd {
    fn from(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }
}

impl Lookupd {
    pub(crate) async fn start() -> Self {
        Self::from(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The next request.
    pub(crate) async fn asked(&self) -> Asked {
        let (mut stream, _) = soon(self.listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(soon(stream.read_buf(&mut head)).await.unwrap(), 0, "broken off");
        }
        Asked { stream, head: String::from_utf8(head).unwrap() }
    }

    /// Answers the next request with the addresses of nsqds.
    pub(crate) async fn knows(&self, nsqds: &[&str]) {
        self.asked().await.answer("200 OK", &listing(nsqds)).await;
    }

    /// Answers requests with the same nsqds until the task is aborted.
    pub(crate) fn keep_knowing(self, nsqds: &[&str]) -> tokio::task::JoinHandle<()> {
        let listing = listing(nsqds);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = self.listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                Asked { stream, head: String::new() }.answer("200 OK", &listing).await;
            }
        })
    }
}

pub(crate) struct Asked {
    stream: TcpStream,
    head: String,
}

impl Asked {
    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The value of the header of this name, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            (key.to_lowercase() == name).then_some(value)
        })
    }

    pub(crate) async fn answer(mut self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        // The client may have gone.
        let _ = self.stream.write_all(answer.as_bytes()).await;
    }
}

/// The body that lists the nsqds at these addresses.
pub(crate) fn listing(nsqds: &[&str]) -> String {
    let producers: Vec<_> = nsqds
        .iter()
        .map(|address| {
            let (host, port) = address.rsplit_once(':').unwrap();
            format!(
                r#"{{"broadcast_address":"{host}","tcp_port":{port},"http_port":1,"hostname":"h"}}"#
            )
        })
        .collect();
    format!(r#"{{"channels":["c"],"producers":[{}]}}"#, producers.join(","))
}
