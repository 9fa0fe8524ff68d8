//! The promises to producers, consumers and operators.

use std::time::Duration;

use nsq_broker::registry::{Counts, Registration};

use super::*;

#[test]
fn a_channel_is_registered_with_its_topic_and_once() {
    let mut registry = registry();
    let added = registry.register(A, "t", Some("c"));
    assert_eq!(texts(&added), ["channel:t:c", "topic:t:"]);
    assert_eq!(added[0].to_string(), "category:channel key:t subkey:c");
    assert_eq!(registry.register(A, "t", Some("c")), []);
    assert_eq!(registry.register(A, "t", None), []);
    assert_eq!(texts(&registry.register(A, "t", Some("d"))), ["channel:t:d"]);
    assert_eq!(texts(&registry.register(B, "t", None)), ["topic:t:"]);
    assert_eq!((topics(&registry), channels(&registry, "t")), (vec!["t"], vec!["c", "d"]));
    assert_eq!(visible(&registry, "t", at(1)), ["a", "b"]);
}

#[test]
fn who_has_not_identified_itself_registers_nothing() {
    let mut registry = Registry::new(INACTIVE, LIFETIME);
    assert_eq!(registry.register(A, "t", Some("c")), []);
    assert_eq!(registry.ping(A, at(1)), None);
    assert_eq!(registry.disconnect(A), []);
    assert!(topics(&registry).is_empty());
}

#[test]
fn a_producer_is_identified_once() {
    let mut registry = registry();
    assert!(!registry.identify(A, peer("other"), at(9)));
    registry.register(A, "t", None);
    assert_eq!(visible(&registry, "t", at(300)), ["a"]);
    assert_eq!(visible(&registry, "t", at(301)), [""; 0]);
}

#[test]
fn a_topic_never_seen_is_told_from_one_without_producers() {
    let mut registry = registry();
    assert_eq!(registry.lookup("t", at(1)), None);
    registry.create_topic("t");
    assert_eq!(registry.lookup("t", at(1)), Some(Default::default()));
    assert_eq!(channels(&registry, "nope"), [""; 0]);
}

#[test]
fn leaving_a_channel_keeps_it_and_the_topic() {
    let mut registry = registry();
    registry.register(A, "t", Some("c"));
    assert_eq!(texts(&registry.unregister(A, "t", Some("c"))), ["channel:t:c"]);
    assert_eq!(registry.unregister(A, "t", Some("c")), []);
    assert_eq!(registry.unregister(A, "t", Some("nope")), []);
    assert_eq!(registry.unregister(A, "nope", Some("c")), []);
    assert_eq!(
        (channels(&registry, "t"), visible(&registry, "t", at(1))),
        (vec!["c"], vec!["a".into()])
    );
}

#[test]
fn leaving_a_topic_leaves_its_channels_too() {
    let mut registry = registry();
    for channel in ["c", "d#ephemeral"] {
        registry.register(A, "t", Some(channel));
    }
    registry.register(B, "t", Some("c"));
    let removed = registry.unregister(A, "t", None);
    assert_eq!(texts(&removed), ["channel:t:c", "channel:t:d#ephemeral", "topic:t:"]);
    assert_eq!(registry.unregister(A, "t", None), []);
    // The producer did not unregister the ephemeral channel by name, so it stays known.
    assert_eq!(channels(&registry, "t"), ["c", "d#ephemeral"]);
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
    let left = registry.registrations().into_keys().collect::<Vec<_>>();
    assert_eq!(texts(&left), ["channel:t:c", "client::", "topic:t:"]);
}

#[test]
fn what_is_ephemeral_goes_with_its_last_producer() {
    let mut registry = registry();
    for id in [A, B] {
        registry.register(id, "t#ephemeral", Some("c"));
        registry.register(id, "u", Some("c#ephemeral"));
    }
    registry.unregister(A, "t#ephemeral", None);
    registry.unregister(A, "u", Some("c#ephemeral"));
    assert_eq!(topics(&registry), ["t#ephemeral", "u"]);
    assert_eq!(channels(&registry, "u"), ["c#ephemeral"]);
    registry.unregister(B, "t#ephemeral", None);
    registry.unregister(B, "u", Some("c#ephemeral"));
    assert_eq!((topics(&registry), channels(&registry, "u")), (vec!["u"], vec![]));
    // It comes back without its registrations.
    registry.register(A, "t#ephemeral", None);
    assert_eq!(channels(&registry, "t#ephemeral"), [""; 0]);
}

#[test]
fn what_is_ephemeral_goes_with_a_producer_that_is_lost_and_the_rest_stays() {
    let mut registry = registry();
    for (topic, channel) in [("t", "c"), ("t", "c#ephemeral"), ("u#ephemeral", "c")] {
        registry.register(A, topic, Some(channel));
    }
    registry.register(B, "t", Some("d#ephemeral"));
    let mut removed = registry.disconnect(A);
    removed.sort();
    let expected = [
        "channel:t:c",
        "channel:t:c#ephemeral",
        "channel:u#ephemeral:c",
        "client::",
        "topic:t:",
        "topic:u#ephemeral:",
    ];
    assert_eq!(texts(&removed), expected);
    assert_eq!(
        (topics(&registry), channels(&registry, "t")),
        (vec!["t"], vec!["c", "d#ephemeral"])
    );
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
    assert_eq!(registry.nodes(at(1)).len(), 1);
}

#[test]
fn anyone_who_leaves_an_ephemeral_name_without_producers_removes_it() {
    let mut registry = registry();
    registry.create_channel("t#ephemeral", "c#ephemeral");
    assert_eq!(registry.unregister(A, "t#ephemeral", Some("c#ephemeral")), []);
    assert_eq!(channels(&registry, "t#ephemeral"), [""; 0]);
    assert_eq!(registry.unregister(A, "t#ephemeral", None), []);
    assert_eq!(topics(&registry), [""; 0]);
}

#[test]
fn a_silent_producer_is_hidden_until_it_gives_a_sign_of_life() {
    let mut registry = registry();
    registry.register(A, "t", None);
    assert_eq!(visible(&registry, "t", at(300)), ["a"]);
    let just_over = at(300) + Duration::from_nanos(1);
    assert_eq!(visible(&registry, "t", just_over), [""; 0]);
    assert!(registry.nodes(just_over).is_empty());
    // Registering is no sign of life.
    registry.register(A, "u", None);
    assert_eq!(visible(&registry, "u", just_over), [""; 0]);
    assert_eq!(registry.ping(A, at(310)), Some(Duration::from_secs(310)));
    assert_eq!(visible(&registry, "t", at(610)), ["a"]);
    assert_eq!(registry.nodes(at(610)).len(), 1);
}

#[test]
fn a_tombstone_hides_a_producer_of_one_topic_for_its_lifetime() {
    let mut registry = registry();
    for topic in ["t", "u"] {
        registry.register(A, topic, None);
        registry.register(B, topic, None);
    }
    assert_eq!(registry.tombstone("t", "a:4151", at(10)), 1);
    assert_eq!(visible(&registry, "t", at(54)), ["b"]);
    assert_eq!(visible(&registry, "u", at(54)), ["a", "b"]);
    let nodes = registry.nodes(at(54));
    assert_eq!(nodes[0].topics, [("t".into(), true), ("u".into(), false)]);
    assert_eq!(nodes[1].topics, [("t".into(), false), ("u".into(), false)]);
    assert_eq!(visible(&registry, "t", at(55)), ["a", "b"]);
    assert_eq!(registry.nodes(at(55))[0].topics, [("t".into(), false), ("u".into(), false)]);
    // The expired tombstone is still shown.
    let entries = &registry.registrations()[&Registration::Topic("t".into())];
    assert_eq!([entries[0].tombstoned_at, entries[1].tombstoned_at], [Some(at(10)), None]);
}

#[test]
fn a_tombstone_set_again_starts_anew() {
    let mut registry = registry();
    registry.register(A, "t", None);
    registry.tombstone("t", "a:4151", at(0));
    registry.tombstone("t", "a:4151", at(40));
    assert_eq!(visible(&registry, "t", at(84)), [""; 0]);
    assert_eq!(visible(&registry, "t", at(85)), ["a"]);
}

#[test]
fn a_tombstone_stays_when_the_producer_registers_again_and_goes_when_it_leaves() {
    let mut registry = registry();
    registry.register(A, "t", None);
    registry.tombstone("t", "a:4151", at(0));
    registry.register(A, "t", Some("c"));
    assert_eq!(visible(&registry, "t", at(1)), [""; 0]);
    registry.unregister(A, "t", None);
    registry.register(A, "t", None);
    assert_eq!(visible(&registry, "t", at(1)), ["a"]);

    registry.tombstone("t", "a:4151", at(2));
    registry.delete_topic("t");
    registry.register(A, "t", None);
    assert_eq!(visible(&registry, "t", at(3)), ["a"]);
}

#[test]
fn every_producer_of_a_tombstoned_address_is_hidden() {
    let mut registry = registry();
    registry.identify(ProducerId(3), peer("a"), at(0));
    for id in [A, B, ProducerId(3)] {
        registry.register(id, "t", None);
    }
    assert_eq!(registry.tombstone("t", "a:4151", at(0)), 2);
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
}

#[test]
fn a_tombstone_for_what_is_not_there_does_nothing() {
    let mut registry = registry();
    registry.register(A, "t", None);
    for (topic, node) in
        [("nope", "a:4151"), ("t", "a:4150"), ("t", "b:4151"), ("t", "a"), ("t", "[a]:"), ("t", "")]
    {
        assert_eq!(registry.tombstone(topic, node, at(0)), 0, "{topic} {node}");
    }
    assert_eq!(visible(&registry, "t", at(1)), ["a"]);
}

#[test]
fn an_ipv6_node_is_known_with_and_without_brackets() {
    let peer = peer("::1");
    assert!(peer.is_node("::1:4151") && peer.is_node("[::1]:4151"));
    assert!(!peer.is_node("[::1:4151") && !peer.is_node("[::2]:4151") && !peer.is_node("::1"));
}

#[test]
fn a_deleted_topic_takes_channels_and_producers_with_it() {
    let mut registry = registry();
    registry.register(A, "t", Some("c"));
    registry.register(A, "u", None);
    registry.create_channel("t", "d");
    let deleted = registry.delete_topic("t");
    assert_eq!(texts(&deleted), ["channel:t:c", "channel:t:d", "topic:t:"]);
    assert_eq!(registry.delete_topic("t"), []);
    assert_eq!((topics(&registry), channels(&registry, "t")), (vec!["u"], vec![]));
    assert_eq!(registry.nodes(at(1))[0].topics, [("u".into(), false)]);
    // Registering again is new.
    assert_eq!(texts(&registry.register(A, "t", None)), ["topic:t:"]);
}

#[test]
fn a_deleted_channel_leaves_its_topic() {
    let mut registry = registry();
    registry.register(A, "t", Some("c"));
    assert!(registry.delete_channel("t", "c"));
    assert!(!registry.delete_channel("t", "c") && !registry.delete_channel("u", "c"));
    assert_eq!((topics(&registry), visible(&registry, "t", at(1))), (vec!["t"], vec!["a".into()]));
    assert_eq!(registry.unregister(A, "t", Some("c")), []);
}

#[test]
fn all_topics_taken_together_show_each_channel_and_producer_once() {
    let mut registry = registry();
    assert_eq!(registry.lookup_all(at(1)), None);
    registry.create_topic("v");
    assert_eq!(registry.lookup_all(at(1)), Some(Default::default()));
    for topic in ["t", "u"] {
        registry.register(A, topic, Some("c"));
        registry.register(B, "t", Some("d"));
    }
    let all = registry.lookup_all(at(1)).unwrap();
    assert_eq!((all.channels.len(), all.producers.len()), (2, 2));
    registry.tombstone("t", "a:4151", at(1));
    registry.tombstone("t", "b:4151", at(1));
    let all = registry.lookup_all(at(1)).unwrap();
    assert_eq!(all.producers.len(), 1);
    assert_eq!(all.producers[0].broadcast_address, "a");
}

#[test]
fn counts_are_of_what_there_is() {
    let mut registry = registry();
    registry.register(A, "t", Some("c"));
    registry.register(B, "t", Some("c"));
    registry.create_channel("u", "d#ephemeral");
    registry.tombstone("t", "a:4151", at(0));
    registry.ping(B, at(300));
    let expected = Counts {
        topics: 2,
        channels: 2,
        producers_active: 2,
        producers_inactive: 0,
        tombstones: 1,
    };
    assert_eq!(registry.counts(at(44)), expected);
    let expected = Counts { producers_active: 1, producers_inactive: 1, tombstones: 0, ..expected };
    assert_eq!(registry.counts(at(301)), expected);
}
