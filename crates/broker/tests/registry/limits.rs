//! The limits on the memory that producers and strangers can take.

use nsq_broker::registry::{Full, TooManyTombstones};

use super::*;

const C: ProducerId = ProducerId(3);

/// The registry with the producers `a` and `b` and other limits.
fn limited(limit: impl FnOnce(&mut Settings)) -> Registry {
    let mut settings = settings();
    limit(&mut settings);
    let mut registry = Registry::new(settings);
    for (id, address) in [(A, "a"), (B, "b")] {
        registry.identify(id, peer(address), at(0));
    }
    registry
}

#[test]
fn a_producer_has_no_more_registrations_than_one_may_have() {
    let mut registry = limited(|settings| settings.registrations_per_producer_max = 3);
    register(&mut registry, A, "t", Some("c"));
    // A topic and its channel are two.
    assert_eq!(registry.register(A, "u", Some("c"), at(0)), Err(Full::Producer(2)));
    assert_eq!(topics(&registry), ["t"]);
    register(&mut registry, A, "t", Some("d"));
    assert_eq!(registry.register(A, "u", None, at(0)), Err(Full::Producer(3)));
    // It may repeat a registration that it has.
    assert_eq!(register(&mut registry, A, "t", Some("c")), []);
    register(&mut registry, B, "u", Some("c"));
    unregister(&mut registry, A, "t", Some("d"));
    register(&mut registry, A, "u", None);
}

#[test]
fn at_the_limit_of_all_registrations_producers_with_less_than_their_share_are_served() {
    let mut registry = limited(|settings| settings.registrations_max = 8);
    for topic in 0..8 {
        register(&mut registry, A, &topic.to_string(), None);
    }
    assert_eq!(registry.register(A, "8", None, at(0)), Err(Full::Registry(8)));
    for topic in 0..4 {
        register(&mut registry, B, &topic.to_string(), None);
    }
    assert_eq!(registry.register(B, "4", None, at(0)), Err(Full::Registry(12)));
    assert_eq!(visible(&registry, "3", at(1)), ["a", "b"]);
    disconnect(&mut registry, A);
    register(&mut registry, B, "8", None);
}

#[test]
fn of_too_many_names_without_producers_those_left_first_go() {
    let mut registry = limited(|settings| settings.orphans_max = 3);
    for (second, topic) in ["old", "older", "oldest"].into_iter().rev().enumerate() {
        registry.create_topic(topic, at(second as u64));
    }
    register(&mut registry, A, "held", Some("c"));
    registry.create_topic("new", at(3));
    assert_eq!(topics(&registry), ["held", "new", "old", "older"]);
    assert_eq!(registry.forgotten_count(), 1);
    // A name that gets a producer is no longer among them, and begins anew when it is left.
    register(&mut registry, A, "older", None);
    registry.create_topic("newer", at(4));
    assert_eq!(topics(&registry), ["held", "new", "newer", "old", "older"]);
    let _ = registry.unregister(A, "older", None, at(5), 9);
    assert_eq!(topics(&registry), ["held", "new", "newer", "older"]);
    assert_eq!(registry.forgotten_count(), 2);
}

#[test]
fn the_channels_of_a_topic_without_producers_go_before_the_topic() {
    let mut registry = limited(|settings| settings.orphans_max = 2);
    registry.create_channel("t", "c", at(0));
    registry.create_topic("u", at(1));
    assert_eq!((topics(&registry), channels(&registry, "t").len()), (names(&["t", "u"]), 0));
    registry.create_topic("v", at(2));
    assert_eq!(topics(&registry), ["u", "v"]);
}

#[test]
fn a_producer_that_leaves_more_names_than_are_kept_leaves_the_rest() {
    let mut registry = limited(|settings| settings.orphans_max = 10);
    for topic in 0..100 {
        register(&mut registry, A, &topic.to_string(), Some("c"));
    }
    register(&mut registry, B, "t", None);
    disconnect(&mut registry, A);
    assert_eq!(registry.counts(at(0)).orphans, 10);
    assert_eq!(registry.forgotten_count(), 190);
    assert_eq!(visible(&registry, "t", at(1)), ["b"]);
}

#[test]
fn a_producer_under_way_out_is_hidden_from_the_first_step_on() {
    let mut registry = registry();
    for topic in ["t", "u", "v"] {
        register(&mut registry, A, topic, Some("c"));
        register(&mut registry, B, topic, None);
    }
    assert!(!registry.disconnect(A, at(1), 1).is_done);
    for topic in ["t", "u", "v"] {
        assert_eq!(visible(&registry, topic, at(1)), ["b"]);
    }
    assert_eq!((nodes(&registry, at(1)).len(), registry.counts(at(1)).producers_active), (1, 1));
    assert!(registrations(&registry).values().all(|entries| entries[..] == [(B, None)]));
    // Others may delete names that it still has.
    delete_topic(&mut registry, "t");
    assert!(registry.delete_channel("u", "c", at(1)));
    disconnect(&mut registry, A);
    assert_eq!(registry.counts(at(1)).registrations, 2);
}

#[test]
fn a_step_removes_no_more_than_it_may() {
    let mut registry = registry();
    for channel in 0..100 {
        register(&mut registry, A, "t", Some(&channel.to_string()));
        register(&mut registry, B, "u#ephemeral", Some(&channel.to_string()));
    }
    let progress = registry.unregister(A, "t", None, at(1), 30);
    assert_eq!((progress.removed.len(), progress.is_done), (30, false));
    let progress = registry.disconnect(B, at(1), 30);
    assert_eq!((progress.removed.len(), progress.is_done), (31, false), "and the producer");
    let progress = registry.delete_topic("t", at(1), 30);
    assert_eq!((progress.removed.len(), progress.is_done), (30, false));
}

#[test]
fn a_producer_unregisters_only_what_it_has_registered() {
    let mut registry = registry();
    for channel in 0..100 {
        register(&mut registry, A, "t", Some(&channel.to_string()));
    }
    register(&mut registry, B, "t", Some("7"));
    // One step each, however many channels the topic has.
    assert_eq!(
        registry.unregister(C, "t", None, at(1), 1),
        Progress { removed: vec![], is_done: true }
    );
    let removed = unregister(&mut registry, B, "t", None);
    assert_eq!(texts(&removed), ["channel:t:7", "topic:t:"]);
    assert_eq!(registry.counts(at(1)).registrations, 101);
}

#[test]
fn tombstones_in_force_are_limited_and_expired_ones_give_way() {
    let mut registry = limited(|settings| settings.tombstones_max = 2);
    for topic in ["t", "u", "v"] {
        register(&mut registry, A, topic, None);
    }
    for topic in ["t", "u"] {
        assert_eq!(registry.tombstone(topic, "a:4151", at(0)), Ok(1));
    }
    assert_eq!(registry.tombstone("v", "a:4151", at(44)), Err(TooManyTombstones));
    // One that is set again is not a new one.
    assert_eq!(registry.tombstone("t", "a:4151", at(44)), Ok(1));
    assert_eq!(registry.tombstone("v", "a:4151", at(45)), Ok(1));
    assert_eq!(registry.counts(at(45)).tombstones, 2);
}
