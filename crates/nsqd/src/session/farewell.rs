//! The end of a session: the last answers, and the input that arrived before the client left.

use std::future::poll_fn;

use tokio::{task::yield_now, time::timeout};

use super::{
    FAREWELL, Session, answers::FlushFailed, create::Stop, output::Output, transport::Transport,
};

/// The most that is still read from a client that has gone. A socket holds less.
const REST_BYTES_MAX: usize = 64 << 20;

impl Session {
    /// Sends the last answers, once they may be sent.
    pub(super) async fn say_farewell(&mut self, transport: &mut Transport) {
        // The answers of a failed flush are gone.
        let _ = self.release_answers().await;
        transport.finish(&mut self.output, FAREWELL).await;
    }

    /// Waits until all answers may be sent. If a flush fails, the answers that wait for it are dropped.
    pub(super) async fn release_answers(&mut self) -> Result<(), Stop> {
        while !self.answers.is_empty() {
            match self.answers.flushed().await {
                Ok(()) => self.answers.release(&mut self.output),
                Err(failed) => {
                    self.drop_answers(&failed);
                    return Err(Stop::Close);
                }
            }
        }
        Ok(())
    }

    /// Drops the answers that wait for a flush that has failed.
    pub(super) fn drop_answers(&mut self, failed: &FlushFailed) {
        let FlushFailed { topic, reason } = failed;
        let line = format_args!("TOPIC({}): {reason}", topic.name);
        self.node.services.clients_log.error("failed flushes", line);
        self.answers.discard();
    }

    /// Handles the input that arrived before the client left. No answer reaches it any more.
    pub(super) async fn handle_rest(&mut self, transport: &mut Transport) {
        let mut bytes = 0;
        while bytes < REST_BYTES_MAX && !self.client.is_closing() {
            let handled = self.handle_input();
            self.output = Output::default();
            self.answers.discard();
            match handled {
                Ok(()) => {}
                // An upgrade would need an answer.
                Err(Stop::Close | Stop::Upgrade(_)) => return,
                Err(Stop::Authorize) => {
                    self.client.woken().await;
                    continue;
                }
                Err(Stop::Create(creation)) => match self.create(*creation).await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Err(Stop::Bulk(bulk)) => match self.carry_out(*bulk).await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Err(Stop::GiveWay) => {
                    yield_now().await;
                    continue;
                }
            }
            let read = poll_fn(|cx| self.input.poll_read(transport, cx));
            match timeout(FAREWELL, read).await {
                Ok(Ok(read)) if read > 0 => bytes += read,
                _ => return,
            }
        }
    }
}
