//! Random operations against a naive model: one flat map from registrations to their producers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TOPICS: [&str; 3] = ["t", "u", "v#ephemeral"];
const CHANNELS: [&str; 3] = ["c", "d", "e#ephemeral"];

#[derive(Clone, Debug)]
enum Operation {
    Identify(u64),
    Ping(u64),
    Register(u64, usize, Option<usize>),
    Unregister(u64, usize, Option<usize>),
    Disconnect(u64),
    Create(usize, Option<usize>),
    Delete(usize, Option<usize>),
    Tombstone(usize, u64),
    Wait(u64),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let (id, topic) = (0..4_u64, 0..TOPICS.len());
    let channel = prop::option::of(0..CHANNELS.len());
    let named = (id.clone(), topic.clone(), channel.clone());
    let operation = prop_oneof![
        2 => id.clone().prop_map(Operation::Identify),
        1 => id.clone().prop_map(Operation::Ping),
        6 => named.clone().prop_map(|(id, topic, channel)| Operation::Register(id, topic, channel)),
        3 => named.prop_map(|(id, topic, channel)| Operation::Unregister(id, topic, channel)),
        1 => id.clone().prop_map(Operation::Disconnect),
        1 => (topic.clone(), channel.clone()).prop_map(|(t, c)| Operation::Create(t, c)),
        1 => (topic.clone(), channel).prop_map(|(t, c)| Operation::Delete(t, c)),
        2 => (topic, id).prop_map(|(topic, id)| Operation::Tombstone(topic, id)),
        2 => (1..200_u64).prop_map(Operation::Wait),
    ];
    prop::collection::vec(operation, 1..60)
}

type Key = (&'static str, Option<&'static str>);

/// The producers of each topic and channel, each with the time of its tombstone.
#[derive(Default)]
struct Model {
    last_update: BTreeMap<u64, u64>,
    entries: BTreeMap<Key, BTreeMap<u64, Option<u64>>>,
}

impl Model {
    fn register(&mut self, id: u64, key: Key) {
        if self.last_update.contains_key(&id) {
            self.entries.entry(key).or_default().entry(id).or_default();
            self.entries.entry((key.0, None)).or_default().entry(id).or_default();
        }
    }

    fn unregister(&mut self, id: u64, (topic, channel): Key) {
        for (key, producers) in &mut self.entries {
            if key.0 == topic && (channel.is_none() || key.1 == channel) {
                producers.remove(&id);
            }
        }
        self.drop_if_ephemeral((topic, channel));
    }

    fn drop_if_ephemeral(&mut self, (topic, channel): Key) {
        let name = channel.unwrap_or(topic);
        let empty = self.entries.get(&(topic, channel)).is_some_and(BTreeMap::is_empty);
        if name.ends_with("#ephemeral") && empty {
            self.delete((topic, channel));
        }
    }

    fn delete(&mut self, (topic, channel): Key) {
        self.entries.retain(|key, _| key.0 != topic || (channel.is_some() && key.1 != channel));
    }

    fn disconnect(&mut self, id: u64) {
        if self.last_update.remove(&id).is_none() {
            return;
        }
        let keys: Vec<_> = self.entries.keys().copied().collect();
        let had: Vec<_> =
            keys.into_iter().filter(|key| self.entries[key].contains_key(&id)).collect();
        for key in &had {
            self.entries.get_mut(key).unwrap().remove(&id);
        }
        for key in had {
            self.drop_if_ephemeral(key);
        }
    }

    fn is_active(&self, id: u64, now: u64) -> bool {
        self.last_update.get(&id).is_some_and(|last| now - last <= INACTIVE.as_secs())
    }

    fn hidden(set_at: Option<u64>, now: u64) -> bool {
        set_at.is_some_and(|set_at| now - set_at < LIFETIME.as_secs())
    }
}

fn apply(operation: &Operation, registry: &mut Registry, model: &mut Model, now: &mut u64) {
    let key = |topic: usize, channel: Option<usize>| (TOPICS[topic], channel.map(|c| CHANNELS[c]));
    let time = at(*now);
    match *operation {
        Operation::Identify(id) => {
            registry.identify(ProducerId(id), peer(&id.to_string()), time);
            model.last_update.entry(id).or_insert(*now);
        }
        Operation::Ping(id) => {
            registry.ping(ProducerId(id), time);
            model.last_update.entry(id).and_modify(|last| *last = *now);
        }
        Operation::Register(id, topic, channel) => {
            let (topic, channel) = key(topic, channel);
            registry.register(ProducerId(id), topic, channel, time).unwrap();
            model.register(id, (topic, channel));
        }
        Operation::Unregister(id, topic, channel) => {
            let (topic, channel) = key(topic, channel);
            let _ = unregister(registry, ProducerId(id), topic, channel);
            model.unregister(id, (topic, channel));
        }
        Operation::Disconnect(id) => {
            let _ = disconnect(registry, ProducerId(id));
            model.disconnect(id);
        }
        Operation::Create(topic, channel) => {
            let (topic, channel) = key(topic, channel);
            match channel {
                Some(channel) => registry.create_channel(topic, channel, time),
                None => registry.create_topic(topic, time),
            }
            model.entries.entry((topic, channel)).or_default();
            model.entries.entry((topic, None)).or_default();
        }
        Operation::Delete(topic, channel) => {
            let (topic, channel) = key(topic, channel);
            match channel {
                Some(channel) => drop(registry.delete_channel(topic, channel, time)),
                None => drop(delete_topic(registry, topic)),
            }
            model.delete((topic, channel));
        }
        Operation::Tombstone(topic, id) => {
            let (topic, _) = key(topic, None);
            registry.tombstone(topic, &format!("{id}:4151"), time).unwrap();
            if let Some(entry) =
                model.entries.get_mut(&(topic, None)).and_then(|producers| producers.get_mut(&id))
            {
                *entry = Some(*now);
            }
        }
        Operation::Wait(seconds) => *now += seconds,
    }
}

/// Every query of the registry answers as the flat map does.
fn compare(registry: &Registry, model: &Model, now: u64) -> Result<(), TestCaseError> {
    let time = at(now);
    let ids = |peers: &[Arc<Peer>]| -> Vec<u64> {
        peers.iter().map(|peer| peer.broadcast_address.parse().unwrap()).collect()
    };
    let known: Vec<_> =
        model.entries.keys().filter(|key| key.1.is_none()).map(|key| key.0).collect();
    prop_assert_eq!(topics(registry), known);
    for topic in TOPICS {
        let expected: Vec<_> =
            model.entries.keys().filter(|key| key.0 == topic).filter_map(|key| key.1).collect();
        prop_assert_eq!(channels(registry, topic), expected);
        let lookup = registry.lookup(topic, time);
        let Some(producers) = model.entries.get(&(topic, None)) else {
            prop_assert_eq!(lookup, None);
            continue;
        };
        let lookup = lookup.unwrap();
        let shown: Vec<_> = producers
            .iter()
            .filter(|(id, set_at)| model.is_active(**id, now) && !Model::hidden(**set_at, now))
            .map(|(id, _)| *id)
            .collect();
        prop_assert_eq!(ids(&lookup), shown);
    }
    let nodes: BTreeMap<u64, Topics> = nodes(registry, time)
        .into_iter()
        .map(|(peer, topics)| (peer.broadcast_address.parse().unwrap(), topics))
        .collect();
    let of = |id: u64| {
        let entries = model.entries.iter().filter(|(key, _)| key.1.is_none());
        let has = entries.filter_map(|(key, producers)| Some((key.0, producers.get(&id)?)));
        has.map(|(topic, set_at)| ((*topic).into(), Model::hidden(*set_at, now))).collect()
    };
    let active = model.last_update.keys().filter(|id| model.is_active(**id, now));
    prop_assert_eq!(&nodes, &active.map(|id| (*id, of(*id))).collect());

    let counts = registry.counts(time);
    let hidden = model.entries.values().flat_map(BTreeMap::values);
    prop_assert_eq!(counts.tombstones, hidden.filter(|at| Model::hidden(**at, now)).count());
    prop_assert_eq!(counts.topics + counts.channels, model.entries.len());
    let empty = model.entries.values().filter(|producers| producers.is_empty());
    prop_assert_eq!(counts.orphans, empty.count());
    let registered = model.entries.values().map(BTreeMap::len);
    prop_assert_eq!(counts.registrations, registered.sum::<usize>());
    prop_assert_eq!(counts.producers_active, nodes.len());
    prop_assert_eq!(counts.producers_active + counts.producers_inactive, model.last_update.len());

    let occupied: BTreeSet<_> = model
        .entries
        .iter()
        .filter(|(_, producers)| !producers.is_empty())
        .map(|((topic, channel), producers)| {
            let registration = match channel {
                Some(channel) => Registration::Channel((*topic).into(), (*channel).into()),
                None => Registration::Topic((*topic).into()),
            };
            (registration, producers.len())
        })
        .collect();
    let told: BTreeSet<_> = registrations(registry)
        .into_iter()
        .map(|(registration, entries)| (registration, entries.len()))
        .collect();
    prop_assert_eq!(told, occupied);
    Ok(())
}

proptest! {
    #[test]
    fn the_registry_is_a_flat_map_of_names_to_producers(operations in operations()) {
        let (mut registry, mut model) = (Registry::new(settings()), Model::default());
        let mut now = 0;
        for operation in &operations {
            apply(operation, &mut registry, &mut model, &mut now);
            compare(&registry, &model, now)?;
        }
    }
}
