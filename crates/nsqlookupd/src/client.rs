//! A connected client: commands executed, registrations changed and logged.

use nsq_broker::registry::{Full, ProducerId, Registration, Registry};
use nsq_daemon::net::Remote;
use nsq_options::duration;
use nsq_protocol::{
    ClientError, Code, OK,
    v1::{self, Command, Phase},
};

use crate::{
    directory::{Directory, STEP},
    identify::{self, Unusable},
    limit::Limit,
};

/// A client and its registrations as a producer, which are removed on drop.
pub(crate) struct Client<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) remote: Remote,
    producer: Option<ProducerId>,
}

impl<'a> Client<'a> {
    /// A client that has said nothing yet.
    pub(crate) fn new(directory: &'a Directory, remote: Remote) -> Self {
        Self { directory, remote, producer: None }
    }

    /// Its place in the protocol.
    pub(crate) fn phase(&self) -> Phase {
        if self.producer.is_some() { Phase::Identified } else { Phase::Connected }
    }

    /// Executes a command and appends the response to `out`.
    ///
    /// # Errors
    /// When the connection has to end.
    pub(crate) async fn execute(
        &mut self,
        command: Command<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        self.directory.metrics.command(command.name());
        match command {
            Command::Identify(body) => {
                self.identify(body)?;
                v1::encode_response(&identify::answer(self.directory), out);
                return Ok(());
            }
            Command::Register { topic, channel } => {
                if let Err(full) = self.register(topic, channel) {
                    // The connection stays: consumers still find what was registered before.
                    v1::encode_error(&self.refuse_registration(full), out);
                    return Ok(());
                }
            }
            Command::Unregister { topic, channel } => self.unregister(topic, channel).await,
            Command::Ping => self.ping(),
        }
        v1::encode_response(OK, out);
        Ok(())
    }

    fn identify(&mut self, body: &[u8]) -> Result<(), ClientError> {
        let Self { directory, remote, .. } = *self;
        let peer = identify::read(body, remote).inspect_err(|error| {
            if matches!(error, Unusable::FieldTooLong(_)) {
                directory.metrics.reached.count(Limit::FieldSize, 1);
            }
        })?;
        let line = format_args!(
            "CLIENT({remote}): IDENTIFY Address:{} TCP:{} HTTP:{} Version:{}",
            peer.broadcast_address, peer.tcp_port, peer.http_port, peer.version
        );
        directory.clients_log.info("IDENTIFY", line);
        let id = directory.next_producer_id();
        self.producer = Some(id);
        directory.with(|registry, now| registry.identify(id, peer, now));
        self.log_change("REGISTER", &Registration::Client);
        Ok(())
    }

    fn register(&self, topic: &str, channel: Option<&str>) -> Result<(), Full> {
        let Some(id) = self.producer else { return Ok(()) };
        let added =
            self.directory.with(|registry, now| registry.register(id, topic, channel, now))?;
        for registration in added {
            self.log_change("REGISTER", &registration);
        }
        Ok(())
    }

    fn refuse_registration(&self, full: Full) -> ClientError {
        let limit = match full {
            Full::Producer(_) => Limit::RegistrationsPerProducer,
            Full::Registry(_) => Limit::Registrations,
        };
        self.directory.metrics.reached.count(limit, 1);
        let text = format!("REGISTER refused: {full} (--{})", limit.as_str());
        let error = ClientError::new(Code::Invalid, text);
        self.log_refusal(&error);
        error
    }

    async fn unregister(&self, topic: &str, channel: Option<&str>) {
        let Some(id) = self.producer else { return };
        let step =
            |registry: &mut Registry, now| registry.unregister(id, topic, channel, now, STEP);
        let log = |registration| {
            if channel.is_none() && matches!(registration, Registration::Channel(..)) {
                // nsqd unregisters the channels of a topic before the topic.
                let remote = self.remote;
                let line = format_args!("client({remote}) unexpected UNREGISTER {registration}");
                self.directory.clients_log.warn("UNREGISTER", line);
            } else {
                self.log_change("UNREGISTER", &registration);
            }
        };
        self.directory.in_steps(step, log).await;
    }

    fn ping(&self) {
        let Some(id) = self.producer else { return };
        if let Some(since) = self.directory.with(|registry, now| registry.ping(id, now)) {
            let since = duration::format(since);
            let remote = self.remote;
            let line = format_args!("CLIENT({remote}): pinged (last ping {since})");
            self.directory.clients_log.info("PING", line);
        }
    }

    /// Removes all registrations. Others get their turn meanwhile, however many there are.
    pub(crate) async fn leave(&mut self) {
        let Some(id) = self.producer else { return };
        let step = |registry: &mut Registry, now| registry.disconnect(id, now, STEP);
        self.directory.in_steps(step, |gone| self.log_change("UNREGISTER", &gone)).await;
        self.producer = None;
    }

    fn log_change(&self, what: &'static str, registration: &Registration) {
        let remote = self.remote;
        let line = format_args!("DB: client({remote}) {what} {registration}");
        self.directory.clients_log.info(what, line);
    }

    /// Logs that a command was refused.
    pub(crate) fn log_refusal(&self, error: &ClientError) {
        let line = format_args!("[{}] - {error}", self.remote);
        self.directory.clients_log.error(error.code.as_str(), line);
    }
}

impl Drop for Client<'_> {
    /// Removes the registrations of a connection that was cut off by the end of nsqlookupd.
    fn drop(&mut self) {
        let Some(id) = self.producer else { return };
        let step = |registry: &mut Registry, now| registry.disconnect(id, now, STEP);
        self.directory.in_steps_blocking(step, |gone| self.log_change("UNREGISTER", &gone));
    }
}
