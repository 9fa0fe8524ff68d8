//! `nsq up`: the whole system in one process, on a folder it creates, with a message sent through it to show that
//! it works.

use std::{
    error::Error,
    ffi::OsString,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use nsq_client::{Config, Consumer, Message, Producer};
use nsq_daemon::{
    cli::{self, LogOptions},
    limits,
    log::{self, FlushGuard, Level, Logger},
    signals,
};
use nsq_options::{Parsed, Table, option};
use nsqd::Nsqd;
use nsqlookupd::Nsqlookupd;
use tokio_util::sync::CancellationToken;

/// Where the data goes unless told otherwise.
const DATA_PATH: &str = "nsq-data";
/// The topic of the message that is sent through; ephemeral, so that nothing of it stays.
const CHECK_TOPIC: &str = "nsq_up_check#ephemeral";
/// How long that message may take before something must be wrong.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// The part of the limit on open files that is the most that clients of nsqlookupd take, over TCP and over HTTP each.
const NSQLOOKUPD_SHARE: usize = 32;
const NSQLOOKUPD_CLIENTS_MAX: usize = 256;

/// The error for an address that is the path of a unix socket.
const NOT_A_PORT: &str = "addresses must be TCP ports, not unix sockets";

/// The options of nsqd with those of its log, and the addresses of nsqlookupd.
struct Options {
    log: LogOptions,
    nsqd: nsqd::Options,
    nsqlookupd_tcp_address: String,
    nsqlookupd_http_address: String,
}

impl Default for Options {
    fn default() -> Self {
        let nsqlookupd = nsqlookupd::Options::default();
        Self {
            log: LogOptions::default(),
            nsqd: nsqd::Options::default(),
            nsqlookupd_tcp_address: nsqlookupd.tcp_address,
            nsqlookupd_http_address: nsqlookupd.http_address,
        }
    }
}

impl Options {
    fn table() -> Table<Self> {
        let own = vec![
            option!(
                Options.nsqlookupd_tcp_address,
                "address at which nsqlookupd listens for nsqds",
            ),
            option!(
                Options.nsqlookupd_http_address,
                "address at which nsqlookupd listens for HTTP clients",
            ),
        ];
        Table::new("nsq up", own)
            .and(LogOptions::table("nsqd").nested(|up: &Self| &up.log, |up| &mut up.log))
            .and(nsqd::Options::table().nested(|up| &up.nsqd, |up| &mut up.nsqd))
    }
}

pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let _flush = FlushGuard::default();
    let mut parsed = match Options::table().parse(args) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(),
    };
    match start(&mut parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::flush();
            // A closed stderr leaves no way to tell.
            let _ = writeln!(std::io::stderr(), "nsq up: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(parsed: &mut Parsed) -> Result<(), Box<dyn Error>> {
    let table = Options::table();
    let unknown = table.load_file(parsed)?;
    let Options { mut log, mut nsqd, nsqlookupd_tcp_address, nsqlookupd_http_address } =
        table.resolve(parsed)?;
    if !parsed.is_set("data-path") {
        nsqd.data_path = DATA_PATH.into();
    }
    if !parsed.is_set("broadcast-address") {
        // Clients of this nsqd are on this machine, where the host name may lead nowhere.
        nsqd.broadcast_address = Ipv4Addr::LOCALHOST.to_string();
    }
    // People watch this terminal: only the unusual is logged, unless they ask for more.
    if !parsed.is_set("log-level") {
        log.log_level = Level::Warn;
    }
    let logger = log.logger();
    cli::log_panics(logger.clone());
    cli::warn_of_unknown(&unknown, &logger);
    cli::raise_file_limit(&logger);
    create_folder(&nsqd.data_path)?;
    let nsqlookupd_clients = nsqlookupd_clients_max();
    let nsqlookupd = nsqlookupd::Options {
        tcp_address: nsqlookupd_tcp_address,
        http_address: nsqlookupd_http_address,
        broadcast_address: nsqd.broadcast_address.clone(),
        connections_max: nsqlookupd_clients,
        http_connections_max: nsqlookupd_clients,
        ..nsqlookupd::Options::default()
    };
    let lookup_logger = LogOptions { log_prefix: "[nsqlookupd] ".to_owned(), ..log }.logger();
    cli::in_runtime(|| serve(nsqd, nsqlookupd, logger, lookup_logger))
}

/// The most clients of nsqlookupd over TCP, and over HTTP. Their descriptors are part of the reserve that the clients of nsqd
/// leave to other things in this process.
fn nsqlookupd_clients_max() -> usize {
    let limit =
        limits::file_limit().map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
    (limit / NSQLOOKUPD_SHARE).clamp(1, NSQLOOKUPD_CLIENTS_MAX)
}

fn create_folder(path: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(path)
        .map_err(|error| format!("create folder {}: {error}", path.display()).into())
}

async fn serve(
    mut nsqd: nsqd::Options,
    nsqlookupd: nsqlookupd::Options,
    logger: Logger,
    lookup_logger: Logger,
) -> Result<(), Box<dyn Error>> {
    let stop = signals::stop_requested()?;
    let folder = nsqd.data_path.clone();
    let nsqlookupd = Nsqlookupd::start(nsqlookupd, lookup_logger).await?;
    let lookup = nsqlookupd.http_address().map(reachable).ok_or(NOT_A_PORT)?;
    let announce = nsqlookupd.tcp_address().map(reachable).ok_or(NOT_A_PORT)?;
    nsqd.lookupd_tcp_addresses.push(announce.to_string());
    let nsqd = Nsqd::start(nsqd, logger).await?;
    let tcp = nsqd.tcp_address().map(reachable).ok_or(NOT_A_PORT)?;
    let http = nsqd.http_address().map(reachable);

    let check = async {
        let took = send_through(tcp).await?;
        greet(&Addresses { tcp, http, lookup }, &folder, took);
        Ok(())
    };
    run_until_first_end(nsqd, nsqlookupd, check, stop).await
}

/// Runs both daemons until a signal comes, one of them ends or the check fails; then stops both.
async fn run_until_first_end(
    nsqd: Nsqd,
    nsqlookupd: Nsqlookupd,
    check: impl Future<Output = Result<(), Box<dyn Error>>>,
    stop: impl Future<Output = signals::Stop>,
) -> Result<(), Box<dyn Error>> {
    let ending = CancellationToken::new();
    let run_lookup = async {
        let ran = nsqlookupd.run(ending.cancelled()).await;
        ending.cancel();
        ran
    };
    let run_nsqd = async {
        let ran = nsqd.run(ending.cancelled()).await;
        ending.cancel();
        ran
    };
    let check = async {
        let checked = check.await;
        if checked.is_err() {
            ending.cancel();
        }
        checked
    };
    let wait = async {
        tokio::select! {
            _ = stop => ending.cancel(),
            () = ending.cancelled() => {}
        }
    };
    let (looked, ran, checked, ()) = tokio::join!(run_lookup, run_nsqd, check, wait);
    checked?;
    looked?;
    Ok(ran?)
}

/// An address to connect to for one that was listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Publishes a message and waits for it to arrive; returns how long that took.
async fn send_through(nsqd: SocketAddr) -> Result<Duration, Box<dyn Error>> {
    let address = nsqd.to_string();
    let (arrived, mut arrival) = tokio::sync::mpsc::unbounded_channel();
    let consumer = Consumer::builder(CHECK_TOPIC, "check#ephemeral")
        .handler(move |_: Message| {
            // Only the first arrival is waited for.
            let _ = arrived.send(());
            async { Ok::<(), std::convert::Infallible>(()) }
        })
        .build()?;
    let through = async {
        consumer.connect_to_nsqd(&address).await?;
        let producer = Producer::new(&address, Config::default())?;
        producer.ping().await?;
        let sent = tokio::time::Instant::now();
        producer.publish(CHECK_TOPIC, b"it works").await?;
        arrival.recv().await.ok_or("the consumer stopped")?;
        let took = sent.elapsed();
        producer.close(Duration::from_secs(1)).await;
        Ok::<_, Box<dyn Error>>(took)
    };
    let took = tokio::time::timeout(CHECK_LIMIT, through)
        .await
        .map_err(|_| "a message that was sent through did not arrive")??;
    consumer.stop().await;
    Ok(took)
}

/// Where the system is reached.
struct Addresses {
    tcp: SocketAddr,
    http: Option<SocketAddr>,
    lookup: SocketAddr,
}

fn greet(addresses: &Addresses, folder: &Path, took: Duration) {
    let Addresses { tcp, http, lookup } = addresses;
    let flag = if tcp.port() == 4150 { String::new() } else { format!(" -nsqd-tcp-address {tcp}") };
    let nsq = std::env::args().next().unwrap_or_else(|| "nsq".to_owned());
    let mut text = format!(
        "nsqd listens on {tcp} for clients{}\nnsqlookupd answers on {lookup} for consumers that look for nsqds\n\
         the data is in {}\na message went through in {took:.0?}\n\n\
         next, in another terminal:\n  {nsq} tail greetings{flag}\n  {nsq} pub greetings{flag} < README.md\n",
        http.map_or_else(String::new, |http| format!(" and on {http} for HTTP")),
        folder.display(),
    );
    if let Some(http) = http {
        text.push_str(&format!(
            "  curl -d hello 'http://{http}/pub?topic=greetings'\n  curl http://{http}/stats\n"
        ));
    }
    text.push_str(&format!(
        "  curl 'http://{lookup}/lookup?topic=greetings'\n\nstop with Ctrl-C\n"
    ));
    // If stdout is closed, the text is not wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
