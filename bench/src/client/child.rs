//! A client under test, in its own process.
//!
//! ```text
//! program   PROGRAM COMMAND -name=value...      COMMAND is consume, publish or idle; options are in
//!                                               rows.rs, messages are a multiple of batch
//! it says   ready     when its runtime is up; nothing is connected yet
//! it hears  go
//! it says   most      when 95 % of the messages have been handled (consume only)
//! it says   all       when all have been handled, or answered, or when it is connected everywhere
//! it hears  the end of its input: it stops in good order and exits with 0
//! ```
//!
//! This lets its CPU clock be read from outside, without the cost of starting and stopping.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{ChildStdin, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    client::raw::RAW,
    clock::now,
    failure::Failure,
    leash::{self, Leashed},
    limit::{Limit, TICK},
    measure::{self, Memory},
    server,
};

/// A client to compare.
pub(crate) struct Client {
    /// The heading of its column.
    pub(crate) name: &'static str,
    /// The program.
    pub(crate) program: PathBuf,
    /// Arguments in addition to those of the work.
    pub(crate) args: &'static [&'static str],
}

/// A running client, killed on drop.
pub(crate) struct Running<'a> {
    process: Leashed,
    limit: &'a Limit,
    input: Option<ChildStdin>,
    words: Receiver<(String, Instant)>,
    complaints: Option<JoinHandle<String>>,
}

impl<'a> Running<'a> {
    /// Starts a client and waits until it is ready.
    ///
    /// Must be called from the main thread; see [`Leashed::start`].
    ///
    /// # Errors
    /// Returns the system's error, or [`Failure::Client`] if the client fails.
    pub(crate) fn start(
        client: &Client,
        command: &str,
        options: &[(&str, String)],
        limit: &'a Limit,
    ) -> Result<Self, Failure> {
        let mut line = leash::command(&client.program)?;
        if client.program == std::env::current_exe().map_err(Failure::io("find the own program"))? {
            line.arg(RAW);
        }
        line.arg(command).args(client.args);
        line.args(options.iter().map(|(name, value)| format!("-{name}={value}")));
        line.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Leashed::start(&mut line)?;
        let child = process.child();
        let input = child.stdin.take();
        let (say, words) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for word in BufReader::new(output).lines().map_while(Result::ok) {
                    if say.send((word, now())).is_err() {
                        return;
                    }
                }
            });
        }
        let complaints = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // Output up to an error is reported.
                let _ = stderr.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let mut running = Self { process, limit, input, words, complaints };
        running.hear("ready")?;
        Ok(running)
    }

    /// Tells the client to begin and returns the time.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn go(&mut self) -> Result<Instant, Failure> {
        let at = now();
        if let Some(input) = &mut self.input {
            input.write_all(b"go\n").map_err(Failure::io("tell a client to begin"))?;
        }
        Ok(at)
    }

    /// Waits until the client says `wanted` and returns the time.
    ///
    /// # Errors
    /// Returns [`Failure::Late`], or [`Failure::Client`] if the client has ended.
    pub(crate) fn hear(&mut self, wanted: &str) -> Result<Instant, Failure> {
        loop {
            match self.words.recv_timeout(TICK) {
                Ok((word, at)) if word == wanted => return Ok(at),
                Ok((word, _)) => {
                    return Err(Failure::Client(format!("it says {word} instead of {wanted}")));
                }
                Err(RecvTimeoutError::Timeout) => self.limit.check("waiting for the client")?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// Returns the CPU time that the client has used.
    ///
    /// # Errors
    /// Returns the system's error, for example if the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        measure::cpu(self.process.pid())
    }

    /// Returns the memory of the client.
    ///
    /// # Errors
    /// Returns the system's error, for example if the process is gone.
    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        measure::memory(self.process.pid())
    }

    /// Stops the client cleanly and waits until it has ended.
    ///
    /// # Errors
    /// Returns [`Failure::Late`], or [`Failure::Client`] if the client fails.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        drop(self.input.take());
        let status = self.await_exit()?;
        if status.success() { Ok(()) } else { Err(self.ended()) }
    }

    fn await_exit(&mut self) -> Result<std::process::ExitStatus, Failure> {
        loop {
            if let Some(status) = self.process.exited()? {
                return Ok(status);
            }
            self.limit.check("waiting for the client to stop")?;
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns why the client has ended.
    fn ended(&mut self) -> Failure {
        let status = match self.await_exit() {
            Ok(status) => status,
            Err(failure) => return failure,
        };
        let said = self.complaints.take().and_then(|complaints| complaints.join().ok());
        let said = said.and_then(|said| server::ends(&said));
        Failure::Client(format!(
            "it ended with {status}{}",
            said.map_or_else(String::new, |said| format!("; it said: {said}"))
        ))
    }
}
