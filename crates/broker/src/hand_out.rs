//! Sharing out ready messages: waiting clients, wake-ups, and the share reserved for each client.
//!
//! A client that found nothing waits. When messages become ready, waiting clients are woken and
//! each has a fair share *reserved*, so that the first to come does not take the share of all. Those that are nearer
//! are served first: others get what the nearer ones do not accept.
//!
//! # Invariants
//!
//! 1. Reservations together never exceed the ready messages, and a client's never exceeds its spare
//!    ready count.
//! 2. Among the queues of its distance, `parked` holds exactly the waiting clients with spare ready count, `wanting`
//!    exactly the woken clients with more spare than reserved.
//! 3. While a message is ready and not reserved, all queues are empty. So no client
//!    sleeps that could be served, unless all is reserved for clients that are awake.
//! 4. Outcomes do not depend on the order of the hash map.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::{ClientConfig, ClientId, ClientStats, Distance};

/// A client as the channel keeps it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: ClientConfig,
    pub(crate) stats: ClientStats,
    reserved: u64,
    attention: Attention,
}

/// How a client comes to ask for messages. Tickets order the queues.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Attention {
    /// It will ask by itself, or park.
    Awake,
    /// It must be woken when there is something for it.
    Waiting { ticket: u64 },
    /// It was woken, has messages reserved and has not come to take them yet.
    Woken { ticket: u64 },
}

impl Client {
    /// How many more messages it accepts.
    fn spare(&self) -> u64 {
        self.stats.ready.saturating_sub(self.stats.in_flight)
    }
}

/// The clients at one distance that accept messages and are not about to ask for them, by their tickets.
#[derive(Default, Debug)]
struct Queues {
    parked: BTreeMap<u64, ClientId>,
    wanting: BTreeMap<u64, ClientId>,
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.wanting.is_empty()
    }

    fn len(&self) -> usize {
        self.parked.len() + self.wanting.len()
    }

    fn ids(&self) -> impl Iterator<Item = &ClientId> {
        self.parked.values().chain(self.wanting.values())
    }

    /// Removes the client that comes next: one that waits, or else one that was woken.
    fn pop(&mut self) -> Option<ClientId> {
        let next = self.parked.pop_first().or_else(|| self.wanting.pop_first());
        next.map(|(_, id)| id)
    }

    /// Removes the client that has this place.
    fn remove(&mut self, attention: Attention) {
        match attention {
            Attention::Awake => {}
            Attention::Waiting { ticket } => _ = self.parked.remove(&ticket),
            Attention::Woken { ticket } => _ = self.wanting.remove(&ticket),
        }
    }
}

/// The clients of a channel, and the messages reserved for them.
#[derive(Default, Debug)]
pub(crate) struct Clients {
    clients: HashMap<ClientId, Client, FixedState>,
    /// By distance, nearest first.
    queues: [Queues; Distance::COUNT],
    reserved: u64,
    ticket_next: u64,
    /// Clients woken since the caller last drained them.
    woken: Vec<ClientId>,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Returns whether nothing is kept of any client, for tests.
    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        let queues = self.queues.iter().all(Queues::is_empty);
        self.clients.is_empty() && queues && self.reserved == 0
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(&id)
    }

    pub(crate) fn contains(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// Adds a client, awake and with a ready count of zero, or changes the settings of one.
    pub(crate) fn configure(&mut self, id: ClientId, config: ClientConfig) {
        let client = self.clients.entry(id).or_insert_with(|| Client {
            config: config.clone(),
            stats: ClientStats::default(),
            reserved: 0,
            attention: Attention::Awake,
        });
        self.queues[client.config.distance.index()].remove(client.attention);
        client.config = config;
        self.update(id, |_| {});
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Option<ClientStats> {
        let client = self.clients.remove(&id)?;
        self.reserved -= client.reserved;
        self.queues[client.config.distance.index()].remove(client.attention);
        Some(client.stats)
    }

    /// Changes a client's counters, and its place in the queues accordingly.
    pub(crate) fn update(&mut self, id: ClientId, change: impl FnOnce(&mut ClientStats)) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        change(&mut client.stats);
        let spare = client.spare();
        let queues = &mut self.queues[client.config.distance.index()];
        match client.attention {
            Attention::Awake => {}
            Attention::Waiting { ticket } if spare > 0 => _ = queues.parked.insert(ticket, id),
            Attention::Waiting { ticket } => _ = queues.parked.remove(&ticket),
            Attention::Woken { ticket } => {
                let surplus = client.reserved.saturating_sub(spare);
                client.reserved -= surplus;
                self.reserved -= surplus;
                if client.reserved == 0 {
                    client.attention = Attention::Awake;
                }
                if client.reserved == 0 || client.reserved == spare {
                    queues.wanting.remove(&ticket);
                } else {
                    queues.wanting.insert(ticket, id);
                }
            }
        }
    }

    /// Uses up to `count` messages of a client's reservation.
    pub(crate) fn use_reservation(&mut self, id: ClientId, count: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let used = client.reserved.min(count);
        client.reserved -= used;
        self.reserved -= used;
        if used > 0 {
            self.update(id, |_| {});
        }
    }

    /// Gives up a client's reservation; it is awake then.
    pub(crate) fn release(&mut self, id: ClientId) {
        self.use_reservation(id, u64::MAX);
    }

    /// Gives up all reservations.
    pub(crate) fn release_all(&mut self) {
        self.reserved = 0;
        self.queues.iter_mut().for_each(|queues| queues.wanting.clear());
        for client in self.clients.values_mut() {
            client.reserved = 0;
            if let Attention::Woken { .. } = client.attention {
                client.attention = Attention::Awake;
            }
        }
    }

    /// Sets all counts of messages in flight to zero and gives up all reservations.
    pub(crate) fn forget_in_flight(&mut self) {
        self.release_all();
        for (&id, client) in &mut self.clients {
            client.stats.in_flight = 0;
            if let Attention::Waiting { ticket } = client.attention
                && client.spare() > 0
            {
                self.queues[client.config.distance.index()].parked.insert(ticket, id);
            }
        }
    }

    /// How many of `available` ready messages a client may take.
    pub(crate) fn entitled(&self, id: ClientId, available: u64) -> u64 {
        let free = available.saturating_sub(self.reserved);
        // By invariant 3 no client that waits or was woken could use what is free.
        self.clients.get(&id).map_or(0, |client| client.spare().min(client.reserved + free))
    }

    /// Lets a client wait, unless there is something for it; returns whether it waits.
    pub(crate) fn park(&mut self, id: ClientId, available: u64) -> bool {
        if available > 0 && self.entitled(id, available) > 0 {
            return false;
        }
        let Some(client) = self.clients.get_mut(&id) else { return true };
        if client.attention == Attention::Awake {
            client.attention = Attention::Waiting { ticket: self.ticket_next };
            self.ticket_next += 1;
            self.update(id, |_| {});
        }
        true
    }

    /// Removes and returns the clients woken since the last call.
    pub(crate) fn drain_woken(&mut self) -> impl Iterator<Item = ClientId> {
        self.woken.drain(..)
    }

    /// The number of messages reserved for woken clients.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// How many messages clients that wait or were woken would accept beyond those reserved for them. Counting
    /// ends at `enough`, so that it costs no more than handing out so many.
    pub(crate) fn unserved(&self, enough: u64) -> u64 {
        let mut unserved: u64 = 0;
        for id in self.queues.iter().flat_map(Queues::ids) {
            if unserved >= enough {
                break;
            }
            let client = self.clients.get(id);
            unserved = unserved.saturating_add(client.map_or(0, |it| it.spare() - it.reserved));
        }
        unserved
    }

    /// Shares out the messages that are ready and not reserved, nearest first: to waiting clients, which are
    /// woken, then to those woken before.
    pub(crate) fn wake(&mut self, available: u64) {
        debug_assert!(self.reserved <= available || available == 0);
        // Mostly there is nothing to share out, or no client that waits for it.
        for distance in 0..Distance::COUNT {
            if available > self.reserved && !self.queues[distance].is_empty() {
                self.share_out(distance, available - self.reserved);
            }
        }
    }

    /// Shares out `free` messages among the clients of one distance.
    fn share_out(&mut self, distance: usize, mut free: u64) {
        let queues = &mut self.queues[distance];
        let mut unserved = 0;
        while free > 0 {
            if unserved == 0 {
                unserved = queues.len() as u64;
            }
            let Some(id) = queues.pop() else { break };
            let Some(client) = self.clients.get_mut(&id) else { continue };
            let share = free.div_ceil(unserved).min(client.spare() - client.reserved);
            if let Attention::Waiting { .. } = client.attention {
                self.woken.push(id);
            }
            let ticket = self.ticket_next;
            self.ticket_next += 1;
            client.attention = Attention::Woken { ticket };
            client.reserved += share;
            if client.reserved < client.spare() {
                queues.wanting.insert(ticket, id);
            }
            self.reserved += share;
            free -= share;
            unserved -= 1;
        }
    }
}
