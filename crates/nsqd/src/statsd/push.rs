//! Sending packets to a statsd daemon, spread over the interval.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The part of an interval in which nothing is sent.
const REST: Duration = Duration::from_secs(1);
/// How long a name server may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes packets to a statsd daemon.
pub(super) trait Sink {
    /// Sends a packet.
    ///
    /// # Errors
    /// When it was not sent, or an earlier one is known to be lost.
    fn send(&self, packet: &str) -> impl Future<Output = io::Result<()>> + Send;
}

/// A UDP socket that sends to one address.
pub(super) struct Socket(UdpSocket);

impl Socket {
    /// Looks the address up and connects to it. A new socket for each push follows a name that gets another address.
    ///
    /// # Errors
    /// When the name is not known, or there is no route.
    pub(super) async fn connect(address: &str) -> io::Result<Self> {
        // An address without a host means this one.
        let full = if address.starts_with(':') {
            format!("localhost{address}")
        } else {
            address.to_owned()
        };
        let found = timeout(LOOKUP_TIMEOUT, lookup_host(full)).await;
        let mut result = Err(io::Error::other("no address found"));
        for address in found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            result = connect_to(address).await;
            if result.is_ok() {
                break;
            }
        }
        result.map(Self)
    }
}

impl Sink for Socket {
    async fn send(&self, packet: &str) -> io::Result<()> {
        self.0.send(packet.as_bytes()).await.map(drop)
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// The pause after each of `packets` packets that spreads them over the interval but for its last second. None if the
/// interval is not longer.
pub(super) fn pause(interval: Duration, packets: usize) -> Duration {
    let packets = u32::try_from(packets).unwrap_or(u32::MAX).max(1);
    interval.saturating_sub(REST) / packets
}

/// Sends the packets with a pause after each; without pauses once `stop` is cancelled.
///
/// # Errors
/// The first error. The others are sent all the same: the daemon may be back.
pub(super) async fn spread(
    packets: &[String],
    pause: Duration,
    stop: &CancellationToken,
    sink: &impl Sink,
) -> io::Result<()> {
    let mut result = Ok(());
    for packet in packets {
        let sent = sink.send(packet).await;
        result = result.and(sent);
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    struct Record {
        start: Instant,
        times: Mutex<Vec<u64>>,
    }

    impl Sink for Record {
        async fn send(&self, packet: &str) -> io::Result<()> {
            self.times.lock().unwrap().push(self.start.elapsed().as_secs());
            if packet == "b" { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
        }
    }

    /// Sends four packets, of which the second fails; returns when each was sent, in seconds.
    async fn times(interval: Duration, stop_at: Duration) -> Vec<u64> {
        let packets = ["a", "b", "c", "d"].map(str::to_owned);
        let record = Record { start: Instant::now(), times: Mutex::default() };
        let stop = CancellationToken::new();
        let sending = spread(&packets, pause(interval, packets.len()), &stop, &record);
        let stopping = async {
            tokio::time::sleep(stop_at).await;
            stop.cancel();
        };
        let (sent, ()) = tokio::join!(sending, stopping);
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        record.times.into_inner().unwrap()
    }

    const NEVER: Duration = Duration::from_secs(1_000);

    #[tokio::test(start_paused = true)]
    async fn packets_are_spread_over_the_interval_but_for_a_second() {
        assert_eq!(times(Duration::from_secs(41), NEVER).await, [0, 10, 20, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_interval_of_a_second_or_less_packets_are_sent_at_once() {
        for interval in [Duration::from_secs(1), Duration::from_millis(1)] {
            assert_eq!(times(interval, NEVER).await, [0; 4]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_sends_the_rest_at_once() {
        let stop_at = Duration::from_secs(12);
        assert_eq!(times(Duration::from_secs(41), stop_at).await, [0, 10, 12, 12]);
    }
}
