//! A channel as simple as it can be: one item for each message.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use nsq_broker::{ChannelState, ClientId, ClientStats, Outstanding, Refusal};

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Message {
    Ready { attempts: u16 },
    Deferred { attempts: u16, due: u64 },
    InFlight { attempts: u16, client: ClientId, deadline: u64, delivered_at: u64 },
    Finished,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Client {
    pub(crate) timeout: u64,
    pub(crate) sample_rate: u8,
    pub(crate) stats: ClientStats,
}

impl Client {
    pub(crate) fn spare(&self) -> u64 {
        self.stats.ready.saturating_sub(self.stats.in_flight)
    }
}

#[derive(Default, Debug)]
pub(crate) struct Model {
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    /// Clients that parked and have not been woken since.
    pub(crate) asleep: BTreeSet<ClientId>,
    pub(crate) end: u64,
    pub(crate) paused: bool,
    pub(crate) message_count: u64,
    pub(crate) requeue_count: u64,
    pub(crate) timeout_count: u64,
}

impl Model {
    /// The messages from `start` on as a state describes them.
    pub(crate) fn messages_of(state: &ChannelState, start: u64) -> BTreeMap<u64, Message> {
        let fresh = |seq| match seq < state.cursor {
            true => (seq, Message::Finished),
            false => (seq, Message::Ready { attempts: 0 }),
        };
        let mut messages: BTreeMap<u64, Message> = (start..state.end).map(fresh).collect();
        for seq in state.finished.iter().cloned().flatten() {
            messages.insert(seq, Message::Finished);
        }
        for Outstanding { range, attempts, due } in &state.outstanding {
            let attempts = *attempts;
            for seq in range.clone() {
                let message = match due {
                    Some(due) => Message::Deferred { attempts, due: due.0 },
                    None => Message::Ready { attempts },
                };
                assert!(messages.insert(seq, message).is_some(), "{seq} is outside {state:?}");
            }
        }
        messages
    }

    /// The messages as a snapshot shows them: those in flight are ready.
    pub(crate) fn snapshot(&self) -> BTreeMap<u64, Message> {
        let shown = |message: &Message| match *message {
            Message::InFlight { attempts, .. } => Message::Ready { attempts },
            other => other,
        };
        self.messages.iter().map(|(&seq, message)| (seq, shown(message))).collect()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Message) -> bool) -> u64 {
        self.messages.values().filter(|message| wanted(message)).count() as u64
    }

    pub(crate) fn depth(&self) -> u64 {
        self.count(|message| matches!(message, Message::Ready { .. }))
    }

    pub(crate) fn low(&self) -> u64 {
        let unfinished = self.messages.iter().find(|(_, it)| **it != Message::Finished);
        unfinished.map_or(self.end, |(&seq, _)| seq)
    }

    /// The lowest message that is ready or in flight.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let waits = |it: &Message| matches!(it, Message::Ready { .. } | Message::InFlight { .. });
        self.messages.iter().find(|(_, it)| waits(it)).map(|(&seq, _)| seq)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let times = self.messages.values().filter_map(|message| match *message {
            Message::InFlight { deadline, .. } => Some(deadline),
            Message::Deferred { due, .. } => Some(due),
            Message::Ready { .. } | Message::Finished => None,
        });
        times.min()
    }

    pub(crate) fn owned(&self, id: ClientId) -> Vec<u64> {
        let owned = |message: &Message| matches!(message, Message::InFlight { client, .. } if *client == id);
        self.messages.iter().filter(|(_, it)| owned(it)).map(|(&seq, _)| seq).collect()
    }

    /// The message, if the client may finish, requeue or touch it.
    pub(crate) fn check(&self, id: ClientId, seq: u64) -> Result<Message, Refusal> {
        match self.messages.get(&seq) {
            Some(it @ Message::InFlight { client, .. }) if *client == id => Ok(*it),
            Some(Message::InFlight { .. }) => Err(Refusal::NotOwner),
            _ => Err(Refusal::NotInFlight),
        }
    }

    pub(crate) fn deliver(&mut self, id: ClientId, range: Range<u64>, attempts: u16, now: u64) {
        let client = self.clients.get_mut(&id).unwrap();
        let deadline = now + client.timeout;
        for seq in range {
            let before = self.messages[&seq];
            assert_eq!(before, Message::Ready { attempts: attempts - 1 }, "{seq} was not ready");
            let message = Message::InFlight { attempts, client: id, deadline, delivered_at: now };
            self.messages.insert(seq, message);
            client.stats.in_flight += 1;
            client.stats.message_count += 1;
        }
        assert!(client.stats.in_flight <= client.stats.ready, "{id:?} was given too much");
    }

    pub(crate) fn expire(&mut self, now: u64) {
        for message in self.messages.values_mut() {
            match *message {
                Message::InFlight { attempts, client, deadline, .. } if deadline <= now => {
                    *message = Message::Ready { attempts };
                    self.timeout_count += 1;
                    if let Some(client) = self.clients.get_mut(&client) {
                        client.stats.in_flight -= 1;
                    }
                }
                Message::Deferred { attempts, due } if due <= now => {
                    *message = Message::Ready { attempts };
                }
                _ => {}
            }
        }
    }
}
