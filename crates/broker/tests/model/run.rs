//! Applies operations to a channel and its model, and compares the two.

use std::{ops::Range, time::Duration};

use nsq_broker::{
    Changes, Channel, ChannelConfig, ChannelState, ClientConfig, ClientId, Distance, FanOut,
    Replay, Time,
};

use crate::{
    model::{Client, Message, Model},
    operations::{MADE_UP_FROM, Operation, Setup},
};

const MAX_MSG_TIMEOUT: u64 = 60;

pub(crate) struct Run {
    config: ChannelConfig,
    start: u64,
    channel: Channel,
    model: Model,
    replay: Replay,
    journal: Vec<Changes>,
    journal_start: ChannelState,
    now: u64,
    clients_made: u64,
    /// The effect of each operation, to compare two runs.
    pub(crate) trace: Vec<String>,
}

impl Run {
    pub(crate) fn new(setup: &Setup) -> Run {
        let config = ChannelConfig {
            depth_max: setup.depth_max,
            max_msg_timeout: Duration::from_nanos(MAX_MSG_TIMEOUT),
            seed: setup.seed,
        };
        let channel = Channel::new(config.clone(), setup.start);
        let state = channel.state();
        Run {
            config,
            start: setup.start,
            channel,
            model: Model { end: setup.start, ..Model::default() },
            replay: Replay::new(state.clone()),
            journal: Vec::new(),
            journal_start: state,
            now: 1_000,
            clients_made: 0,
            trace: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, operation: &Operation) {
        match operation.clone() {
            Operation::Publish { count, deferred } => self.publish(count, &deferred),
            Operation::AddClient { timeout, sample_rate, ready } => {
                self.add_client(timeout, sample_rate, ready);
            }
            Operation::Wait { time } => self.expire(self.now + time),
            Operation::WaitForDeadline => {
                let next = self.model.next_deadline().unwrap_or(self.now);
                self.expire(self.now.max(next));
            }
            Operation::Pause => {
                self.channel.pause();
                self.model.paused = true;
            }
            Operation::Unpause => {
                self.channel.unpause();
                self.model.paused = false;
            }
            Operation::Empty => self.empty(),
            Operation::Journal => self.drain_journal(),
            Operation::Restart => {
                self.drain_journal();
                self.recover(self.replay.state());
            }
            Operation::Crash => self.crash(),
            Operation::Settle => self.settle(),
            other => self.apply_to_client(&other),
        }
        let woken = self.note_woken();
        self.trace.push(format!("{woken:?} {:?}", self.channel.state()));
    }

    fn apply_to_client(&mut self, operation: &Operation) {
        match *operation {
            Operation::Configure { client, timeout } => {
                let Some(id) = self.pick(client) else { return };
                let client = self.model.clients.get_mut(&id).unwrap();
                client.timeout = timeout;
                let config = client_config(client);
                self.channel.configure_client(id, config);
            }
            Operation::RemoveClient { client, requeue } => {
                let Some(id) = self.pick(client) else { return };
                self.remove_client(id, requeue);
            }
            Operation::SetReady { client, count } => {
                let Some(id) = self.pick(client) else { return };
                self.model.clients.get_mut(&id).unwrap().stats.ready = count;
                self.channel.set_ready(id, count);
            }
            Operation::Visit { client, ref takes } => {
                let Some(id) = self.pick(client) else { return };
                self.visit(id, takes);
            }
            Operation::Release { client } => {
                let Some(id) = self.pick(client) else { return };
                self.channel.release(id);
            }
            Operation::Finish { client, from, count } => {
                let id = self.pick(client).unwrap_or(ClientId(999));
                let from = self.message(from);
                self.finish(id, from..from + count);
            }
            Operation::FinishOwn { client, skip, count } => {
                let Some(id) = self.pick(client) else { return };
                let Some(&from) = self.model.owned(id).get(skip) else { return };
                self.finish(id, from..from + count);
            }
            Operation::Requeue { client, own, message, delay } => {
                let Some((id, seq)) = self.pick_message(client, own, message) else { return };
                self.requeue(id, seq, delay);
            }
            Operation::Touch { client, own, message } => {
                let Some((id, seq)) = self.pick_message(client, own, message) else { return };
                self.touch(id, seq);
            }
            _ => unreachable!("{operation:?} is not about a client"),
        }
    }

    fn publish(&mut self, count: u64, deferred: &[(u64, u64, u64)]) {
        let range = self.model.end..self.model.end + count;
        let mut ranges = Vec::new();
        let mut next = range.start;
        for &(skip, length, delay) in deferred {
            let (from, to) = (next + skip, (next + skip + length).min(range.end));
            if from < to {
                ranges.push((from..to, Duration::from_nanos(delay)));
                next = to;
            }
        }
        let before = self.model.depth();
        let spare: u64 = self.model.clients.values().map(Client::spare).sum();
        let fan_out = FanOut { range: range.clone(), deferred: ranges };
        self.channel.publish(&fan_out, Time(self.now));
        self.model.end = range.end;
        self.model.message_count += count;
        for seq in range.clone() {
            self.model.messages.insert(seq, Message::Ready { attempts: 0 });
        }
        for (range, delay) in &fan_out.deferred {
            let due = self.now + u64::try_from(delay.as_nanos()).unwrap();
            for seq in range.clone().filter(|_| !delay.is_zero()) {
                self.model.messages.insert(seq, Message::Deferred { attempts: 0, due });
            }
        }
        if let Some(depth_max) = self.config.depth_max {
            let accepted = self.channel.depth() - before;
            let offered = self.model.depth() - before;
            assert!(accepted >= offered.min(depth_max.saturating_sub(before)));
            assert!(accepted <= offered.min((depth_max + spare).saturating_sub(before)));
            let fresh = self.model.messages.range_mut(range);
            let ready = fresh.filter(|(_, it)| matches!(it, Message::Ready { .. }));
            for (_, dropped) in ready.skip(usize::try_from(accepted).unwrap()) {
                *dropped = Message::Finished;
            }
        }
    }

    fn add_client(&mut self, timeout: u64, sample_rate: u8, ready: u64) {
        let id = ClientId(self.clients_made);
        self.clients_made += 1;
        let mut client = Client { timeout, sample_rate, ..Client::default() };
        client.stats.ready = ready;
        self.channel.add_client(id, client_config(&client));
        self.channel.set_ready(id, ready);
        self.model.clients.insert(id, client);
    }

    fn remove_client(&mut self, id: ClientId, requeue: bool) {
        let owned = self.model.owned(id);
        let client = self.model.clients.remove(&id).unwrap();
        self.model.asleep.remove(&id);
        assert_eq!(self.channel.remove_client(id, requeue), Some(client.stats));
        for seq in owned.into_iter().filter(|_| requeue) {
            let Message::InFlight { attempts, .. } = self.model.messages[&seq] else { continue };
            self.model.messages.insert(seq, Message::Ready { attempts });
            self.model.requeue_count += 1;
        }
    }

    fn visit(&mut self, id: ClientId, takes: &[u64]) {
        for &take in takes {
            let Some(offer) = self.channel.offer(id) else { break };
            self.note_dropped(id);
            assert!(!self.model.paused);
            let count = take.min(offer.range.end - offer.range.start);
            let taken = self.channel.take(id, &offer, take, Time(self.now));
            assert_eq!(taken, count);
            let range = offer.range.start..offer.range.start + count;
            self.model.deliver(id, range, offer.attempts, self.now);
        }
        self.note_dropped(id);
        let something = self.channel.offer(id).is_some();
        self.note_dropped(id);
        let parked = self.channel.park(id);
        assert_eq!(parked, !something, "{id:?} parked in front of an offer, or the reverse");
        if parked {
            self.note_woken();
            self.model.asleep.insert(id);
        }
    }

    /// Marks the messages that an offer to a sampled client dropped.
    fn note_dropped(&mut self, id: ClientId) {
        if self.model.clients[&id].sample_rate == 0 {
            return;
        }
        let shown = Model::messages_of(&self.channel.state(), self.start);
        for (seq, message) in &mut self.model.messages {
            if matches!(message, Message::Ready { .. }) && shown[seq] == Message::Finished {
                *message = Message::Finished;
            }
        }
    }

    fn finish(&mut self, id: ClientId, range: Range<u64>) {
        let mut refused = Vec::new();
        let count = self.channel.finish(id, range.clone(), &mut refused);
        let mut expected = Vec::new();
        for seq in range.clone() {
            match self.model.check(id, seq) {
                Ok(_) => _ = self.model.messages.insert(seq, Message::Finished),
                Err(refusal) => expected.push((seq, refusal)),
            }
        }
        if self.model.clients.contains_key(&id) {
            assert_eq!(refused, expected);
        }
        assert_eq!(count, range.count() as u64 - expected.len() as u64);
        if let Some(client) = self.model.clients.get_mut(&id) {
            client.stats.in_flight -= count;
            client.stats.finish_count += count;
        }
    }

    fn requeue(&mut self, id: ClientId, seq: u64, delay: u64) {
        let now = Time(self.now);
        let outcome = self.channel.requeue(id, seq, Duration::from_nanos(delay), now);
        let expected = self.model.check(id, seq);
        assert_eq!(outcome, expected.map(|_| ()));
        if let Ok(Message::InFlight { attempts, .. }) = expected {
            let message = match delay {
                0 => Message::Ready { attempts },
                _ => Message::Deferred { attempts, due: self.now + delay },
            };
            self.model.messages.insert(seq, message);
            self.model.requeue_count += 1;
            let client = self.model.clients.get_mut(&id).unwrap();
            client.stats.in_flight -= 1;
            client.stats.requeue_count += 1;
        }
    }

    fn touch(&mut self, id: ClientId, seq: u64) {
        let outcome = self.channel.touch(id, seq, Time(self.now));
        let expected = self.model.check(id, seq);
        assert_eq!(outcome, expected.map(|_| ()));
        if let Ok(Message::InFlight { attempts, client, delivered_at, .. }) = expected {
            let deadline = self.now + self.model.clients[&id].timeout;
            let deadline = deadline.min(delivered_at + MAX_MSG_TIMEOUT);
            let message = Message::InFlight { attempts, client, deadline, delivered_at };
            self.model.messages.insert(seq, message);
        }
    }

    fn expire(&mut self, now: u64) {
        self.now = now;
        self.channel.expire(Time(now));
        self.model.expire(now);
    }

    fn empty(&mut self) {
        self.channel.empty();
        self.model.messages.values_mut().for_each(|message| *message = Message::Finished);
        self.model.clients.values_mut().for_each(|client| client.stats.in_flight = 0);
    }

    /// Loses the changes that the journal was not told, and gets back the messages that the topic still has.
    fn crash(&mut self) {
        let state = self.replay.state();
        let kept = Model::messages_of(&state, self.start);
        for (seq, message) in &self.model.messages {
            let lost = kept.get(seq) == Some(&Message::Finished);
            assert!(!lost || *message == Message::Finished, "message {seq} was lost");
        }
        let range = state.end..self.model.end;
        self.recover(state);
        if range.start < range.end {
            self.model.end = range.start;
            self.publish(range.end - range.start, &[]);
        }
    }

    fn recover(&mut self, state: ChannelState) {
        self.channel = Channel::recover(self.config.clone(), state.clone());
        assert_eq!(self.channel.state(), state);
        assert!(!self.channel.has_changes());
        self.model = Model {
            messages: Model::messages_of(&state, self.start),
            end: state.end,
            paused: state.paused,
            ..Model::default()
        };
        self.replay = Replay::new(state.clone());
        self.journal_start = state;
        self.journal.clear();
    }

    fn drain_journal(&mut self) {
        let told = self.channel.has_changes();
        let changes = self.channel.changes();
        assert!(!self.channel.has_changes());
        let before = self.replay.state();
        self.replay.apply(&changes);
        let after = self.replay.state();
        assert!(told || before == after, "{changes:?} came unannounced");
        let state = ChannelState { paused: after.paused, ..self.channel.state() };
        assert_eq!(after, state, "after {changes:?}");
        self.journal.push(changes);
    }

    /// Checks that a journal applied twice, as a whole or from any point on, gives the same state.
    pub(crate) fn check_journal(&mut self) {
        self.drain_journal();
        let expected = self.replay.state();
        for from in [0, self.journal.len() / 2] {
            let mut replay = Replay::new(self.journal_start.clone());
            for changes in self.journal.iter().chain(&self.journal[from..]) {
                replay.apply(changes);
            }
            assert_eq!(replay.state(), expected);
        }
    }

    /// Lets every client that is awake take what it can, until all are asleep. No message that a client could take
    /// may be left then.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let awake = self.model.clients.keys().find(|id| !self.model.asleep.contains(id));
            let Some(&id) = awake else { break };
            self.visit(id, &[u64::MAX; 3]);
            self.note_woken();
        }
        assert_eq!(self.model.asleep.len(), self.model.clients.len(), "clients keep each other up");
        let depth = self.channel.depth();
        if depth > 0 && !self.model.paused {
            for (id, client) in &self.model.clients {
                assert_eq!(client.spare(), 0, "{id:?} sleeps while {depth} messages are ready");
            }
        }
    }

    /// Compares everything observable.
    pub(crate) fn check(&mut self) {
        let (channel, model) = (&self.channel, &self.model);
        assert_eq!(Model::messages_of(&channel.state(), self.start), model.snapshot());
        assert_eq!(channel.state().paused, model.paused);
        assert_eq!(channel.is_paused(), model.paused);
        let in_flight = model.count(|it| matches!(it, Message::InFlight { .. }));
        let deferred = model.count(|it| matches!(it, Message::Deferred { .. }));
        let finished = model.count(|it| *it == Message::Finished);
        assert_eq!(channel.depth(), model.depth());
        assert_eq!(channel.in_flight_count(), in_flight);
        assert_eq!(channel.deferred_count(), deferred);
        let published = channel.end() - self.start;
        assert_eq!(channel.depth() + in_flight + deferred + finished, published);
        assert_eq!(channel.message_count(), model.message_count);
        assert_eq!(channel.requeue_count(), model.requeue_count);
        assert_eq!(channel.timeout_count(), model.timeout_count);
        assert_eq!(channel.client_count(), model.clients.len());
        assert_eq!(channel.low(), model.low());
        assert_eq!(channel.oldest(), model.oldest());
        assert_eq!(channel.next_deadline(), model.next_deadline().map(Time));
        for (id, client) in &model.clients {
            assert_eq!(channel.client(*id), Some(&client.stats));
        }
        for seq in [self.start, model.low() + 3, model.end.saturating_sub(2), model.end, u64::MAX] {
            let below = model.messages.range(..seq);
            let ready = below.filter(|(_, it)| matches!(it, Message::Ready { .. })).count();
            assert_eq!(channel.ready_below(seq), ready as u64);
        }
        self.check_nobody_is_forgotten();
    }

    /// While a message is ready, a client may only sleep if another one is awake.
    fn check_nobody_is_forgotten(&self) {
        let model = &self.model;
        let sleeper = model.asleep.iter().find(|id| model.clients[id].spare() > 0);
        if let Some(sleeper) = sleeper
            && !model.paused
            && model.depth() > 0
        {
            let awake =
                |id: &&ClientId| !model.asleep.contains(id) && model.clients[id].spare() > 0;
            assert!(model.clients.keys().any(|id| awake(&id)), "{sleeper:?} was forgotten");
        }
    }

    /// Marks the clients that the channel wakes as awake, and returns them.
    fn note_woken(&mut self) -> Vec<ClientId> {
        let woken: Vec<_> = self.channel.drain_woken().collect();
        for id in &woken {
            self.model.asleep.remove(id);
        }
        woken
    }

    fn pick(&self, index: usize) -> Option<ClientId> {
        let count = self.model.clients.len();
        self.model.clients.keys().nth(index % count.max(1)).copied()
    }

    fn message(&self, distance: u64) -> u64 {
        if let Some(from_last) = distance.checked_sub(MADE_UP_FROM) {
            return u64::MAX - 16 - from_last;
        }
        let first = self.model.low().saturating_sub(2);
        first + distance % (self.model.end + 4 - first)
    }

    fn pick_message(&self, client: usize, own: bool, message: u64) -> Option<(ClientId, u64)> {
        let id = self.pick(client)?;
        if !own {
            return Some((id, self.message(message)));
        }
        let owned = self.model.owned(id);
        let index = usize::try_from(message).unwrap() % owned.len().max(1);
        owned.get(index).map(|&seq| (id, seq))
    }
}

fn client_config(client: &Client) -> ClientConfig {
    let msg_timeout = Duration::from_nanos(client.timeout);
    // Clients are at all distances, and move when they are configured.
    let distance = match client.timeout % 3 {
        0 => Distance::Zone,
        1 => Distance::Region,
        _ => Distance::Global,
    };
    ClientConfig { msg_timeout, sample_rate: client.sample_rate, distance }
}
