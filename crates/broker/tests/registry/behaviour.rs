//! The promises to producers, consumers and operators.

use std::time::Duration;

use nsq_broker::registry::{Counts, Registration};

use super::*;

#[test]
fn a_channel_is_registered_with_its_topic_and_once() {
    let mut registry = registry();
    let added = register(&mut registry, A, "t", Some("c"));
    assert_eq!(texts(&added), ["channel:t:c", "topic:t:"]);
    assert_eq!(added[0].to_string(), "category:channel key:t subkey:c");
    assert_eq!(register(&mut registry, A, "t", Some("c")), []);
    assert_eq!(register(&mut registry, A, "t", None), []);
    assert_eq!(texts(&register(&mut registry, A, "t", Some("d"))), ["channel:t:d"]);
    assert_eq!(texts(&register(&mut registry, B, "t", None)), ["topic:t:"]);
    assert_eq!((topics(&registry), channels(&registry, "t")), (names(&["t"]), names(&["c", "d"])));
    assert_eq!(visible(&registry, "t", at(1)), ["a", "b"]);
}

#[test]
fn who_has_not_identified_itself_registers_nothing() {
    let mut registry = Registry::new(settings());
    assert_eq!(register(&mut registry, A, "t", Some("c")), []);
    assert_eq!(registry.ping(A, at(1)), None);
    assert_eq!(disconnect(&mut registry, A), []);
    assert!(topics(&registry).is_empty());
}

#[test]
fn a_producer_is_identified_once() {
    let mut registry = registry();
    assert!(!registry.identify(A, peer("other"), at(9)));
    register(&mut registry, A, "t", None);
    assert_eq!(visible(&registry, "t", at(300)), ["a"]);
    assert_eq!(visible(&registry, "t", at(301)), [""; 0]);
}

#[test]
fn a_topic_never_seen_is_told_from_one_without_producers() {
    let mut registry = registry();
    assert_eq!(registry.lookup("t", at(1)), None);
    registry.create_topic("t", at(0));
    assert_eq!(registry.lookup("t", at(1)), Some(Vec::new()));
    assert_eq!(channels(&registry, "nope"), [""; 0]);
}

#[test]
fn leaving_a_channel_keeps_it_and_the_topic() {
    let mut registry = registry();
    register(&mut registry, A, "t", Some("c"));
    assert_eq!(texts(&unregister(&mut registry, A, "t", Some("c"))), ["channel:t:c"]);
    assert_eq!(unregister(&mut registry, A, "t", Some("c")), []);
    assert_eq!(unregister(&mut registry, A, "t", Some("nope")), []);
    assert_eq!(unregister(&mut registry, A, "nope", Some("c")), []);
    assert_eq!(
        (channels(&registry, "t"), visible(&registry, "t", at(1))),
        (names(&["c"]), names(&["a"]))
    );
}

#[test]
fn leaving_a_topic_leaves_its_channels_too() {
    let mut registry = registry();
    for channel in ["c", "d#ephemeral"] {
        register(&mut registry, A, "t", Some(channel));
    }
    register(&mut registry, B, "t", Some("c"));
    let removed = unregister(&mut registry, A, "t", None);
    assert_eq!(texts(&removed), ["channel:t:c", "channel:t:d#ephemeral", "topic:t:"]);
    assert_eq!(unregister(&mut registry, A, "t", None), []);
    // The producer did not unregister the ephemeral channel by name, so it stays known.
    assert_eq!(channels(&registry, "t"), ["c", "d#ephemeral"]);
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
    let left = registrations(&registry).into_keys().collect::<Vec<_>>();
    assert_eq!(texts(&left), ["channel:t:c", "topic:t:"]);
}

#[test]
fn what_is_ephemeral_goes_with_its_last_producer() {
    let mut registry = registry();
    for id in [A, B] {
        register(&mut registry, id, "t#ephemeral", Some("c"));
        register(&mut registry, id, "u", Some("c#ephemeral"));
    }
    unregister(&mut registry, A, "t#ephemeral", None);
    unregister(&mut registry, A, "u", Some("c#ephemeral"));
    assert_eq!(topics(&registry), ["t#ephemeral", "u"]);
    assert_eq!(channels(&registry, "u"), ["c#ephemeral"]);
    unregister(&mut registry, B, "t#ephemeral", None);
    unregister(&mut registry, B, "u", Some("c#ephemeral"));
    assert_eq!((topics(&registry), channels(&registry, "u")), (names(&["u"]), names(&[])));
    // It comes back without its registrations.
    register(&mut registry, A, "t#ephemeral", None);
    assert_eq!(channels(&registry, "t#ephemeral"), [""; 0]);
}

#[test]
fn what_is_ephemeral_goes_with_a_producer_that_is_lost_and_the_rest_stays() {
    let mut registry = registry();
    for (topic, channel) in [("t", "c"), ("t", "c#ephemeral"), ("u#ephemeral", "c")] {
        register(&mut registry, A, topic, Some(channel));
    }
    register(&mut registry, B, "t", Some("d#ephemeral"));
    let mut removed = disconnect(&mut registry, A);
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
        (names(&["t"]), names(&["c", "d#ephemeral"]))
    );
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
    assert_eq!(nodes(&registry, at(1)).len(), 1);
}

#[test]
fn anyone_who_leaves_an_ephemeral_name_without_producers_removes_it() {
    let mut registry = registry();
    registry.create_channel("t#ephemeral", "c#ephemeral", at(0));
    assert_eq!(unregister(&mut registry, A, "t#ephemeral", Some("c#ephemeral")), []);
    assert_eq!(channels(&registry, "t#ephemeral"), [""; 0]);
    assert_eq!(unregister(&mut registry, A, "t#ephemeral", None), []);
    assert!(topics(&registry).is_empty());
}

#[test]
fn a_silent_producer_is_hidden_until_it_gives_a_sign_of_life() {
    let mut registry = registry();
    register(&mut registry, A, "t", None);
    assert_eq!(visible(&registry, "t", at(300)), ["a"]);
    let just_over = at(300) + Duration::from_nanos(1);
    assert_eq!(visible(&registry, "t", just_over), [""; 0]);
    assert!(nodes(&registry, just_over).is_empty());
    // Registering is no sign of life.
    register(&mut registry, A, "u", None);
    assert_eq!(visible(&registry, "u", just_over), [""; 0]);
    assert_eq!(registry.ping(A, at(310)), Some(Duration::from_secs(310)));
    assert_eq!(visible(&registry, "t", at(610)), ["a"]);
    assert_eq!(nodes(&registry, at(610)).len(), 1);
}

#[test]
fn a_tombstone_hides_a_producer_of_one_topic_for_its_lifetime() {
    let mut registry = registry();
    for topic in ["t", "u"] {
        register(&mut registry, A, topic, None);
        register(&mut registry, B, topic, None);
    }
    assert_eq!(registry.tombstone("t", "a:4151", at(10)), Ok(1));
    assert_eq!(visible(&registry, "t", at(54)), ["b"]);
    assert_eq!(visible(&registry, "u", at(54)), ["a", "b"]);
    let shown = nodes(&registry, at(54));
    assert_eq!(shown[0].1, [("t".into(), true), ("u".into(), false)]);
    assert_eq!(shown[1].1, [("t".into(), false), ("u".into(), false)]);
    assert_eq!(visible(&registry, "t", at(55)), ["a", "b"]);
    assert_eq!(nodes(&registry, at(55))[0].1, [("t".into(), false), ("u".into(), false)]);
    // The expired tombstone is still shown.
    let entries = &registrations(&registry)[&Registration::Topic("t".into())];
    assert_eq!(entries[..], [(A, Some(at(10))), (B, None)]);
}

#[test]
fn a_tombstone_set_again_starts_anew() {
    let mut registry = registry();
    register(&mut registry, A, "t", None);
    registry.tombstone("t", "a:4151", at(0)).unwrap();
    registry.tombstone("t", "a:4151", at(40)).unwrap();
    assert_eq!(visible(&registry, "t", at(84)), [""; 0]);
    assert_eq!(visible(&registry, "t", at(85)), ["a"]);
}

#[test]
fn a_tombstone_stays_when_the_producer_registers_again_and_goes_when_it_leaves() {
    let mut registry = registry();
    register(&mut registry, A, "t", None);
    registry.tombstone("t", "a:4151", at(0)).unwrap();
    register(&mut registry, A, "t", Some("c"));
    assert_eq!(visible(&registry, "t", at(1)), [""; 0]);
    unregister(&mut registry, A, "t", None);
    register(&mut registry, A, "t", None);
    assert_eq!(visible(&registry, "t", at(1)), ["a"]);

    registry.tombstone("t", "a:4151", at(2)).unwrap();
    delete_topic(&mut registry, "t");
    register(&mut registry, A, "t", None);
    assert_eq!(visible(&registry, "t", at(3)), ["a"]);
}

#[test]
fn every_producer_of_a_tombstoned_address_is_hidden() {
    let mut registry = registry();
    registry.identify(ProducerId(3), peer("a"), at(0));
    for id in [A, B, ProducerId(3)] {
        register(&mut registry, id, "t", None);
    }
    assert_eq!(registry.tombstone("t", "a:4151", at(0)), Ok(2));
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
}

#[test]
fn a_tombstone_for_what_is_not_there_does_nothing() {
    let mut registry = registry();
    register(&mut registry, A, "t", None);
    for (topic, node) in
        [("nope", "a:4151"), ("t", "a:4150"), ("t", "b:4151"), ("t", "a"), ("t", "[a]:"), ("t", "")]
    {
        assert_eq!(registry.tombstone(topic, node, at(0)), Ok(0), "{topic} {node}");
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
    register(&mut registry, A, "t", Some("c"));
    register(&mut registry, A, "u", None);
    registry.create_channel("t", "d", at(0));
    let deleted = delete_topic(&mut registry, "t");
    assert_eq!(texts(&deleted), ["channel:t:c", "channel:t:d", "topic:t:"]);
    assert_eq!(delete_topic(&mut registry, "t"), []);
    assert_eq!((topics(&registry), channels(&registry, "t")), (names(&["u"]), names(&[])));
    assert_eq!(nodes(&registry, at(1))[0].1, [("u".into(), false)]);
    // Registering again is new.
    assert_eq!(texts(&register(&mut registry, A, "t", None)), ["topic:t:"]);
}

#[test]
fn a_deleted_channel_leaves_its_topic() {
    let mut registry = registry();
    register(&mut registry, A, "t", Some("c"));
    assert!(registry.delete_channel("t", "c", at(0)));
    assert!(!registry.delete_channel("t", "c", at(0)) && !registry.delete_channel("u", "c", at(0)));
    assert_eq!((topics(&registry), visible(&registry, "t", at(1))), (names(&["t"]), names(&["a"])));
    assert_eq!(unregister(&mut registry, A, "t", Some("c")), []);
}

#[test]
fn all_topics_taken_together_show_each_channel_and_producer_once() {
    let mut registry = registry();
    assert_eq!(registry.lookup_all(at(1)), None);
    registry.create_topic("v", at(0));
    assert_eq!(registry.lookup_all(at(1)), Some(Vec::new()));
    for topic in ["t", "u"] {
        register(&mut registry, A, topic, Some("c"));
        register(&mut registry, B, "t", Some("d"));
    }
    assert_eq!(sorted(|from| registry.all_channels(from, 1)), ["c", "d"]);
    assert_eq!(registry.lookup_all(at(1)).unwrap().len(), 2);
    registry.tombstone("t", "a:4151", at(1)).unwrap();
    registry.tombstone("t", "b:4151", at(1)).unwrap();
    let all = registry.lookup_all(at(1)).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].broadcast_address, "a");
}

#[test]
fn counts_are_of_what_there_is() {
    let mut registry = registry();
    register(&mut registry, A, "t", Some("c"));
    register(&mut registry, B, "t", Some("c"));
    registry.create_channel("u", "d#ephemeral", at(0));
    registry.tombstone("t", "a:4151", at(0)).unwrap();
    registry.ping(B, at(300));
    let expected = Counts {
        topics: 2,
        channels: 2,
        orphans: 2,
        registrations: 4,
        producers_active: 2,
        producers_inactive: 0,
        tombstones: 1,
    };
    assert_eq!(registry.counts(at(44)), expected);
    let expected = Counts { producers_active: 1, producers_inactive: 1, tombstones: 0, ..expected };
    assert_eq!(registry.counts(at(301)), expected);
}
