//! The scenarios.

use std::collections::BTreeSet;

use crate::{
    hosts::{Host, Hub, in_hub},
    processes::{Running, get, lines, post, publish, ready_counts, wait_for},
};

const TOPIC: &str = "orders";

struct Cluster<'a> {
    hub: &'a Hub,
    lookupds: Vec<Host>,
    nsqds: Vec<Host>,
    running_lookupds: Vec<Running>,
    running_nsqds: Vec<Running>,
    folders: Vec<tempfile::TempDir>,
    publisher: Host,
}

impl<'a> Cluster<'a> {
    fn start(hub: &'a Hub) -> Self {
        let lookupds: Vec<_> = [1, 2].map(|number| hub.host(number)).into();
        let nsqds: Vec<_> = [11, 12, 13].map(|number| hub.host(number)).into();
        let running_lookupds = lookupds.iter().map(Running::nsqlookupd).collect();
        let folders: Vec<_> = nsqds.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let nsqd = |(host, folder): (&Host, &tempfile::TempDir)| {
            Running::nsqd(host, folder.path(), &lookupds)
        };
        let running_nsqds = nsqds.iter().zip(&folders).map(nsqd).collect();
        let publisher = hub.host(31);
        Self { hub, lookupds, nsqds, running_lookupds, running_nsqds, folders, publisher }
    }

    fn restart_nsqd(&mut self, index: usize) {
        self.running_nsqds[index] =
            Running::nsqd(&self.nsqds[index], self.folders[index].path(), &self.lookupds);
    }

    /// Publishes to a running nsqd and asserts that everything is acknowledged.
    fn publish(&self, nsqd: usize, prefix: &str, count: usize) -> Vec<String> {
        let lines = lines(prefix, count);
        let published = publish(&self.publisher, &self.nsqds[nsqd], TOPIC, &lines);
        assert_eq!(published, Ok(()), "publishing {prefix}");
        lines
    }

    fn consumer(&self, number: u8, channel: &str) -> (Host, Running) {
        let host = self.hub.host(number);
        let running = Running::consumer(&host, TOPIC, channel, &self.lookupds);
        (host, running)
    }

    /// The RDY count of a consumer on each nsqd; `None` where it is not connected.
    fn ready(&self, channel: &str, consumer: &Host) -> Vec<Option<u64>> {
        let ready =
            |nsqd: &Host| ready_counts(nsqd, TOPIC, channel).get(&consumer.address).copied();
        self.nsqds.iter().map(ready).collect()
    }

    /// The number of producers of the topic that an nsqlookupd lists.
    fn known_nodes(&self, lookupd: usize) -> usize {
        let target = format!("/lookup?topic={TOPIC}");
        let Ok(body) = get(&self.lookupds[lookupd].port(4161), &target) else { return 0 };
        let nodes: serde_json::Value = serde_json::from_str(&body).unwrap();
        nodes["producers"].as_array().map_or(0, Vec::len)
    }
}

fn wait_for_all(what: &str, expected: &[String], consumers: &[&Running]) {
    let missing = || {
        let seen: BTreeSet<String> =
            consumers.iter().flat_map(|consumer| consumer.out.all()).collect();
        expected.iter().filter(|line| !seen.contains(*line)).count()
    };
    wait_for(what, || missing() == 0);
}

#[test]
fn nothing_acknowledged_is_lost_while_a_cluster_is_shaken() {
    in_hub("story::nothing_acknowledged_is_lost_while_a_cluster_is_shaken", |hub| {
        let mut cluster = Cluster::start(hub);
        let mut sent = Vec::new();
        for nsqd in 0..3 {
            sent.extend(cluster.publish(nsqd, &format!("first-{nsqd}"), 200));
        }
        for lookupd in 0..2 {
            wait_for("both nsqlookupds to know all nsqds", || cluster.known_nodes(lookupd) == 3);
        }
        let (host, mut one) = cluster.consumer(21, "work");
        wait_for_all("the first messages", &sent, &[&one]);
        wait_for("RDY to be spread", || cluster.ready("work", &host) == [Some(30); 3]);

        // A second consumer shares the channel; then an nsqd is killed and restarted.
        let (other_host, two) = cluster.consumer(22, "work");
        wait_for("the second consumer", || cluster.ready("work", &other_host) == [Some(30); 3]);
        cluster.running_nsqds[1].kill();
        wait_for("RDY to move to the nsqds that are left", || {
            let ready = cluster.ready("work", &host);
            ready == [Some(45), None, Some(45)]
        });
        sent.extend(cluster.publish(0, "while-one-is-dead", 100));
        cluster.restart_nsqd(1);
        sent.extend(cluster.publish(1, "after-it-came-back", 100));
        wait_for_all("the messages around the death of an nsqd", &sent, &[&one, &two]);
        wait_for("RDY to be spread again", || cluster.ready("work", &host) == [Some(30); 3]);

        // An nsqlookupd is cut off: the other suffices, and reconnects are paced.
        cluster.hub.cable(&cluster.lookupds[1], false);
        sent.extend(cluster.publish(2, "while-a-lookupd-is-away", 100));
        let (third_host, three) = cluster.consumer(23, "other");
        wait_for("a consumer to find all nsqds through one nsqlookupd", || {
            cluster.ready("other", &third_host) == [Some(30); 3]
        });
        let found = cluster.publish(0, "found-through-one-lookupd", 100);
        wait_for_all("messages found through one nsqlookupd", &found, &[&three]);
        sent.extend(found);
        cluster.hub.cable(&cluster.lookupds[1], true);
        wait_for("the nsqlookupd to know all nsqds again", || cluster.known_nodes(1) == 3);
        for nsqd in &cluster.running_nsqds {
            assert!(nsqd.log.count("LOOKUP connecting") < 40, "{:?}", nsqd.log.all());
        }
        wait_for_all("the messages around the cut", &sent, &[&one, &two]);

        // A consumer is stopped while it works; the other receives the rest.
        sent.extend(cluster.publish(0, "while-one-stops", 500));
        assert_eq!(one.stop(), Some(0));
        sent.extend(cluster.publish(1, "after-one-stopped", 100));
        wait_for_all("what the stopped consumer left", &sent, &[&one, &two]);
        for consumer in [&one, &two, &three] {
            assert!(consumer.log.count("connected") < 60, "{:?}", consumer.log.all());
        }
        for lookupd in &mut cluster.running_lookupds {
            assert_eq!(lookupd.stop(), Some(0));
        }
        for nsqd in &mut cluster.running_nsqds {
            assert_eq!(nsqd.stop(), Some(0));
        }
    });
}

#[test]
fn a_tombstoned_node_is_not_found_any_more() {
    in_hub("story::a_tombstoned_node_is_not_found_any_more", |hub| {
        let cluster = Cluster::start(hub);
        let mut sent = Vec::new();
        for nsqd in 0..3 {
            sent.extend(cluster.publish(nsqd, &format!("first-{nsqd}"), 10));
        }
        for lookupd in 0..2 {
            wait_for("both nsqlookupds to know all nsqds", || cluster.known_nodes(lookupd) == 3);
        }
        let node = cluster.nsqds[2].port(4151);
        for lookupd in &cluster.lookupds {
            post(&lookupd.port(4161), &format!("/topic/tombstone?topic={TOPIC}&node={node}"));
        }
        let (host, consumer) = cluster.consumer(21, "work");
        let reachable: Vec<_> =
            sent.iter().filter(|line| !line.starts_with("first-2")).cloned().collect();
        wait_for_all("the messages of the nodes that are left", &reachable, &[&consumer]);
        assert_eq!(cluster.ready("work", &host)[2], None);
    });
}
