//! The server that a workload runs against.

use std::{net::SocketAddr, path::PathBuf, thread, time::Duration};

use nix::unistd::Pid;
use serde_json::Value;

use crate::{
    failure::Failure,
    http,
    layer::Endpoint,
    limit::Limit,
    measure::{self, Memory},
};

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A server that stores and delivers messages.
    Nsqd,
    /// The null server, which only reads and answers.
    Null,
}

/// The server's addresses, process and data, as far as they are known.
#[derive(Debug)]
pub(crate) struct Target {
    /// The kind of server.
    pub(crate) kind: Kind,
    /// The address for protocol V2 and the layer to speak.
    pub(crate) endpoint: Endpoint,
    /// The address of the HTTP API, if it is known.
    pub(crate) http: Option<SocketAddr>,
    /// The server's process, if it is known.
    pub(crate) pid: Option<Pid>,
    /// The server's data directory, if it is known.
    pub(crate) data: Option<PathBuf>,
}

impl Target {
    /// Returns the CPU time that the server has used, if its process is known.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn cpu(&self) -> Result<Option<Duration>, Failure> {
        self.pid.map(measure::cpu).transpose()
    }

    /// Returns the memory of the server, if its process is known.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn memory(&self) -> Result<Option<Memory>, Failure> {
        self.pid.map(measure::memory).transpose()
    }

    /// Returns the bytes that the server has written to disks, if its process is known.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn written_bytes(&self) -> Result<Option<u64>, Failure> {
        self.pid.map(measure::written_bytes).transpose()
    }

    /// Returns the bytes in the server's data directory, if it is known.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn disk_bytes(&self) -> Result<Option<u64>, Failure> {
        self.data.as_deref().map(measure::disk_bytes).transpose()
    }

    /// Waits until each channel holds `messages` and the topic itself none.
    ///
    /// Does nothing if the server's HTTP API is not known.
    ///
    /// # Errors
    /// Returns [`Failure::Late`] or an error of the HTTP API.
    pub(crate) fn await_depth(
        &self,
        topic: &str,
        messages: usize,
        limit: &Limit,
    ) -> Result<(), Failure> {
        let Some(http) = self.http else { return Ok(()) };
        while !Depths::fetch(http, topic)?.are(messages as u64) {
            limit.check("waiting for the channels to hold what was published")?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Checks that a topic without channels holds `messages`.
    ///
    /// Does nothing if the server's HTTP API is not known.
    ///
    /// # Errors
    /// Returns [`Failure::Wrong`] for any other number, or an error of the HTTP API.
    pub(crate) fn check_published(&self, topic: &str, messages: usize) -> Result<(), Failure> {
        let Some(http) = self.http else { return Ok(()) };
        let depths = Depths::fetch(http, topic)?;
        if depths.topic == messages as u64 {
            return Ok(());
        }
        Err(Failure::Wrong(format!("{messages} messages were answered, but there are {depths:?}")))
    }

    /// Checks that the channels of a topic are empty, with nothing in flight.
    ///
    /// Does nothing if the server's HTTP API is not known.
    ///
    /// # Errors
    /// Returns [`Failure::Wrong`] if something is left, or an error of the HTTP API.
    pub(crate) fn check_finished(&self, topic: &str) -> Result<(), Failure> {
        let Some(http) = self.http else { return Ok(()) };
        let depths = Depths::fetch(http, topic)?;
        if depths.are(0) && depths.in_flight == 0 {
            return Ok(());
        }
        Err(Failure::Wrong(format!(
            "all messages are finished, but the server still has {depths:?}"
        )))
    }

    /// Like [`Target::check_finished`], but allows some time for the last answers of clients that
    /// have disconnected.
    ///
    /// # Errors
    /// Returns the same errors as [`Target::check_finished`], or [`Failure::Late`].
    pub(crate) fn await_finished(&self, topic: &str, limit: &Limit) -> Result<(), Failure> {
        for _ in 0..100 {
            if self.check_finished(topic).is_ok() {
                return Ok(());
            }
            limit.check("waiting for the server to see the last answers")?;
            thread::sleep(Duration::from_millis(20));
        }
        self.check_finished(topic)
    }

    /// Returns the number of deferred messages in the channels of a topic; 0 if the server's HTTP
    /// API is not known.
    ///
    /// # Errors
    /// Returns an error of the HTTP API.
    pub(crate) fn deferred(&self, topic: &str) -> Result<u64, Failure> {
        let Some(http) = self.http else { return Ok(0) };
        Ok(Depths::fetch(http, topic)?.deferred)
    }

    /// Returns the number of messages that wait in the channels of a topic; 0 if the server's HTTP API is not
    /// known.
    ///
    /// # Errors
    /// Returns an error of the HTTP API.
    pub(crate) fn depth(&self, topic: &str) -> Result<u64, Failure> {
        let Some(http) = self.http else { return Ok(0) };
        Ok(Depths::fetch(http, topic)?.channels.iter().sum())
    }

    /// Checks that the channels of a topic have `consumers` connections in total.
    ///
    /// Does nothing if the server's HTTP API is not known.
    ///
    /// # Errors
    /// Returns [`Failure::Wrong`] for any other number, or an error of the HTTP API.
    pub(crate) fn check_consumers(&self, topic: &str, consumers: usize) -> Result<(), Failure> {
        let Some(http) = self.http else { return Ok(()) };
        let there = Depths::fetch(http, topic)?.consumers;
        if there == consumers as u64 {
            return Ok(());
        }
        Err(Failure::Wrong(format!("{there} connections are subscribed instead of {consumers}")))
    }
}

/// The numbers of a topic in `/stats`.
#[derive(Debug, Default)]
struct Depths {
    topic: u64,
    channels: Vec<u64>,
    in_flight: u64,
    deferred: u64,
    consumers: u64,
}

impl Depths {
    fn fetch(http: SocketAddr, topic: &str) -> Result<Self, Failure> {
        let path =
            format!("/stats?format=json&topic={topic}&include_clients=false&include_mem=false");
        let body = http::request(http, "GET", &path)?;
        let stats: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::Unexpected(format!("/stats is not JSON: {error}")))?;
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let topic = &stats["topics"][0];
        let channels = topic["channels"].as_array().map_or(&[][..], Vec::as_slice);
        let sum = |field: &str| channels.iter().map(|channel| number(&channel[field])).sum();
        Ok(Self {
            topic: number(&topic["depth"]),
            channels: channels.iter().map(|channel| number(&channel["depth"])).collect(),
            in_flight: sum("in_flight_count"),
            deferred: sum("deferred_count"),
            consumers: sum("client_count"),
        })
    }

    fn are(&self, messages: u64) -> bool {
        self.topic == 0
            && !self.channels.is_empty()
            && self.channels.iter().all(|depth| *depth == messages)
    }
}
