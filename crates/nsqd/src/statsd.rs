//! statsd: pushes the figures of a node over UDP at an interval.

mod figures;
mod packets;
mod push;

use std::{io, sync::Arc};

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::{figures::Figures, push::Socket};
use crate::node::Node;

/// Pushes the figures of `node` after each interval until `stop` is cancelled. Without an address or an interval there
/// is nothing to do.
pub(crate) async fn run(node: Arc<Node>, stop: CancellationToken) {
    let options = &node.services.options.statsd;
    if options.address.is_empty() || options.interval.is_zero() {
        return;
    }
    let mut ticks = interval_at(Instant::now() + options.interval, options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pusher = Pusher { figures: Figures::default(), failing: false };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        pusher.push(&node, &stop).await;
    }
    node.services.logger.info(format_args!("STATSD: closing"));
}

/// The beginning of every name, with a dot at its end; empty if none is configured.
pub(crate) fn prefix(node: &Node) -> String {
    let options = &node.services.options;
    expand(&options.statsd.prefix, &options.broadcast_address, node.broadcast_ports().1)
}

/// Puts the address of a host in place of each `%s`. Dots and colons would end a part of a name, so it has underscores
/// instead.
fn expand(prefix: &str, host: &str, http_port: u16) -> String {
    let address = if host.contains(':') {
        format!("[{host}]:{http_port}")
    } else {
        format!("{host}:{http_port}")
    };
    let mut expanded = prefix.replace("%s", &address.replace(['.', ':'], "_"));
    if !expanded.is_empty() && !expanded.ends_with('.') {
        expanded.push('.');
    }
    expanded
}

/// The state kept from push to push.
struct Pusher {
    figures: Figures,
    /// The last push failed, which has been logged.
    failing: bool,
}

impl Pusher {
    async fn push(&mut self, node: &Arc<Node>, stop: &CancellationToken) {
        let options = &node.services.options.statsd;
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = Socket::connect(&options.address) => connected,
        };
        let socket = match connected {
            Ok(socket) => socket,
            Err(error) => return self.report(node, &Err(error)),
        };
        let address = &options.address;
        node.services.logger.info(format_args!("STATSD: pushing stats to {address}"));
        let packets = self.collect(node).await;
        let pause = push::pause(options.interval, packets.len());
        let sent = push::spread(&packets, pause, stop, &socket).await;
        self.report(node, &sent);
    }

    /// Collects the figures on a thread that may block: there may be very many topics.
    async fn collect(&mut self, node: &Arc<Node>) -> Vec<String> {
        let (node, mut figures) = (node.clone(), std::mem::take(&mut self.figures));
        let collected = tokio::task::spawn_blocking(move || {
            let packets = figures.collect(&node);
            (figures, packets)
        });
        // A panic was reported by the panic hook; the next push counts from the start again.
        let Ok((figures, packets)) = collected.await else { return Vec::new() };
        self.figures = figures;
        packets
    }

    /// Logs that pushing fails, or works again, once.
    fn report(&mut self, node: &Node, pushed: &io::Result<()>) {
        let services = &node.services;
        let address = &services.options.statsd.address;
        match pushed {
            Err(error) if !self.failing => services.logger.error(format_args!(
                "STATSD: failed to push stats to {address}, trying again at every interval - {error}"
            )),
            Ok(()) if self.failing => {
                services.logger.info(format_args!("STATSD: stats reach {address} again"));
            }
            _ => {}
        }
        self.failing = pushed.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_for_the_host_in_a_prefix_is_filled_and_a_dot_ends_it() {
        for (prefix, expected) in [
            ("nsq.%s", "nsq.10_0_0_1_4151."),
            ("%s.x.%s.", "10_0_0_1_4151.x.10_0_0_1_4151."),
            ("100%.%d.%%s", "100%.%d.%10_0_0_1_4151."),
            ("plain", "plain."),
            ("", ""),
        ] {
            assert_eq!(expand(prefix, "10.0.0.1", 4151), expected);
        }
        assert_eq!(expand("%s", "fe80::1", 0), "[fe80__1]_0.");
    }
}
