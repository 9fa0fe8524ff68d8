//! Topology-aware consumption: messages go to the nearest consumers that wait.

use nsq_protocol::Command;

use crate::support::{Client, Received, Server, eventually};

fn nsqd(experiments: &[&str]) -> Server {
    Server::with(|options| {
        options.topology_region = "north".to_owned();
        options.topology_zone = "north-1".to_owned();
        options.experiments = experiments.iter().map(|&name| name.to_owned()).collect();
    })
}

/// A consumer in a place that has found nothing and waits.
fn consumer(nsqd: &Server, region: &str, zone: &str) -> Client {
    let mut client = nsqd.client();
    client.identify(&format!(r#"{{"topology_region":"{region}","topology_zone":"{zone}"}}"#));
    client.subscribe("t", "c", 5);
    client.settle();
    client
}

/// Publishes 12 messages while three consumers wait, and returns how many each gets; from far to near.
fn shares(nsqd: &Server) -> [usize; 3] {
    let places = [("south", "south-1"), ("north", "north-2"), ("north", "north-1")];
    let mut consumers = places.map(|(region, zone)| consumer(nsqd, region, zone));
    let mut producer = nsqd.client();
    for _ in 0..12 {
        producer.publish("t", b"x");
    }
    eventually(|| nsqd.channel_stats("c")["in_flight_count"] == 12);
    consumers.each_mut().map(|consumer| consumer.drain().len())
}

#[test]
fn the_nearest_consumers_are_served_first_and_counted_by_their_distance() {
    let nsqd = nsqd(&["topology-aware-consumption"]);
    assert_eq!(shares(&nsqd), [2, 5, 5]);
    let stats = nsqd.channel_stats("c");
    let counts = ["zone_local_msg_count", "region_local_msg_count", "global_msg_count"];
    assert_eq!(counts.map(|key| stats[key].as_u64()), [Some(5), Some(5), Some(2)]);
}

#[test]
fn without_the_experiment_places_do_not_matter() {
    for experiments in [&[][..], &["another-experiment"]] {
        let nsqd = nsqd(experiments);
        assert!(shares(&nsqd).iter().all(|&share| share > 2));
        let stats = nsqd.channel_stats("c");
        assert_eq!(stats["global_msg_count"], 12);
        assert!(stats.get("zone_local_msg_count").is_none());
        assert!(stats.get("region_local_msg_count").is_none());
    }
}

#[test]
fn no_place_at_all_is_a_place_too() {
    let nsqd = Server::with(|options| {
        options.experiments = vec!["topology-aware-consumption".to_owned()];
    });
    let mut near = consumer(&nsqd, "", "");
    nsqd.client().ok(Command::Pub { topic: "t", body: b"x" });
    near.finish_next(1);
    assert_eq!(nsqd.channel_stats("c")["zone_local_msg_count"], 1);
}

#[test]
fn a_client_is_told_where_the_nsqd_is_and_not_where_it_is_itself() {
    let nsqd = nsqd(&[]);
    let answer = nsqd.client().identify(
        r#"{"feature_negotiation":true,"topology_region":"south","topology_zone":"south-1"}"#,
    );
    let Received::Response(json) = answer else { panic!("{answer:?}") };
    let place = r#","topology_region":"north","topology_zone":"north-1"}"#;
    assert!(json.ends_with(place), "{json}");
}
