//! Server processes: started afresh for each run and measured from outside.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    clock::now,
    failure::Failure,
    http,
    layer::{Endpoint, Identity, Layer},
    leash::{self, Leashed},
    limit::Limit,
    scratch::{self, Scratch},
    target::{Kind, Target},
};

/// The bytes shown of either end of a server's log when a run fails.
const LOG_END_BYTES: usize = 300;
/// The bytes read of either end of a log.
const LOG_READ_BYTES: u64 = 4096;

/// The room in the memory queue beyond the messages of the workload.
const MEMORY_QUEUE_MARGIN: usize = 10_000;

/// A server to compare.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The heading of its column.
    pub(crate) name: String,
    /// The kind of server.
    pub(crate) kind: Kind,
    /// The program; this program itself for the null server.
    pub(crate) program: PathBuf,
    /// Flags in addition to those of the workload.
    pub(crate) args: Vec<String>,
    /// The program is the nsqd of this project.
    pub(crate) ours: bool,
    /// The address it listens on for protocol V2: loopback, or unspecified for all of `127.0.0.0/8`.
    pub(crate) host: Ipv4Addr,
    /// The files that it may open, if not as many as the system allows.
    pub(crate) open_files: Option<u64>,
}

impl Spec {
    /// Describes the nsqd of this project, at `path`.
    ///
    /// # Errors
    /// Returns the system's error, for example if there is no such file.
    pub(crate) fn ours(path: &str) -> Result<Self, Failure> {
        Ok(Self { ours: true, ..Self::nsqd("nsqd", path)? })
    }

    /// Describes another nsqd, at `path`.
    ///
    /// # Errors
    /// Returns the system's error, for example if there is no such file.
    pub(crate) fn nsqd(name: &str, path: &str) -> Result<Self, Failure> {
        let program = fs::canonicalize(path).map_err(Failure::io(format!("find {path}")))?;
        Ok(Self::new(name, Kind::Nsqd, program))
    }

    /// Describes the null server, which is this program.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn null() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("find the own program"))?;
        Ok(Self::new("null", Kind::Null, program))
    }

    fn new(name: &str, kind: Kind, program: PathBuf) -> Self {
        let (name, args, host) = (name.to_owned(), Vec::new(), Ipv4Addr::LOCALHOST);
        Self { name, kind, program, args, ours: false, host, open_files: None }
    }

    /// Describes the nsqd that was built with this program, on a disk whose flushes take `flush_ms`
    /// longer.
    ///
    /// # Errors
    /// Returns [`Failure::Server`] if it is not beside this program.
    pub(crate) fn on_slow_disk(&self, flush_ms: u64) -> Result<Self, Failure> {
        let own = std::env::current_exe().map_err(Failure::io("find the own program"))?;
        let program = own.with_file_name("nsq-bench-nsqd");
        if !program.exists() {
            let path = program.display();
            return Err(Failure::Server(format!("{path} is missing: build nsq-bench again")));
        }
        let mut args = vec![format!("-flush-delay={flush_ms}ms")];
        args.extend_from_slice(&self.args);
        Ok(Self { program, args, ..self.clone() })
    }
}

/// The parameters of a server process, for starting and restarting it.
struct Launch {
    spec: Spec,
    workload_args: Vec<String>,
    layer: Layer,
    /// For TLS.
    identity: Option<Identity>,
    /// Holds the data and the logs.
    directory: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
}

impl Launch {
    /// Starts the process, which appends to its log.
    fn spawn(&self) -> Result<Leashed, Failure> {
        let mut command = leash::command_with_files(&self.spec.program, self.spec.open_files)?;
        match self.spec.kind {
            Kind::Null => {
                command.args(["null", "--address"]).arg(self.address().to_string());
                command.args(["--layer", self.layer.name()]);
                if let Some(Identity { cert, key }) = &self.identity {
                    command.arg("--cert").arg(cert).arg("--key").arg(key);
                }
            }
            Kind::Nsqd => {
                command.args(["-tcp-address", &self.listen.to_string()]);
                command.args(["-http-address", &self.http.to_string()]);
                command.arg("-data-path").arg(self.data()).arg("-log-level=warn");
                if let Some(Identity { cert, key }) = &self.identity {
                    command.arg("-tls-cert").arg(cert).arg("-tls-key").arg(key);
                    command.arg("-https-address=");
                }
                command.args(&self.workload_args).args(&self.spec.args);
            }
        }
        command.stdin(Stdio::null()).stdout(self.log("stdout")?).stderr(self.log("stderr")?);
        Leashed::start(&mut command)
    }

    fn log(&self, name: &str) -> Result<File, Failure> {
        let log = File::options().create(true).append(true).open(self.directory.join(name));
        log.map_err(Failure::io("create a log"))
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The address to connect to, even if the server listens on others too.
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.listen.port()).into()
    }
}

/// A running server. Dropping it kills the process and removes its data.
pub(crate) struct Server {
    launch: Launch,
    process: Leashed,
    /// The server's addresses and process.
    pub(crate) target: Target,
}

impl Server {
    /// Starts a server with its own data directory on free ports and waits until it answers.
    ///
    /// Must be called from the main thread: the server is bound to the life of the thread that
    /// starts it.
    ///
    /// # Errors
    /// Returns [`Failure::Server`] with the end of its log if it does not come up.
    pub(crate) fn start(
        spec: &Spec,
        workload_args: &[String],
        layer: Layer,
        scratch: &mut Scratch,
        limit: &Limit,
    ) -> Result<Self, Failure> {
        let mut server = Self::spawn(spec, workload_args, layer, scratch.next()?)?;
        match server.await_ready(limit) {
            Ok(()) => Ok(server),
            Err(failure) => {
                Err(Failure::Server(format!("it did not come up: {failure}{}", server.log_ends())))
            }
        }
    }

    fn spawn(
        spec: &Spec,
        workload_args: &[String],
        layer: Layer,
        directory: PathBuf,
    ) -> Result<Self, Failure> {
        let [listen, http] = free_addresses(spec.host).map_err(Failure::io("find free ports"))?;
        let (spec, workload_args) = (spec.clone(), workload_args.to_vec());
        let identity = (layer == Layer::Tls).then(|| Identity::create(&directory)).transpose()?;
        let launch = Launch { spec, workload_args, layer, identity, directory, listen, http };
        let data = launch.data();
        fs::create_dir(&data).map_err(Failure::io(format!("create {}", data.display())))?;
        let process = launch.spawn()?;
        let is_nsqd = launch.spec.kind == Kind::Nsqd;
        let target = Target {
            kind: launch.spec.kind,
            endpoint: Endpoint { address: launch.address(), layer },
            http: is_nsqd.then_some(http),
            pid: Some(process.pid()),
            data: is_nsqd.then_some(data),
        };
        Ok(Self { launch, process, target })
    }

    /// Kills the server and restarts it with its data. Returns when it was started, without waiting
    /// for it to answer.
    ///
    /// Must be called from the main thread; see [`Server::start`].
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn kill_and_restart(&mut self) -> Result<Instant, Failure> {
        self.process.end();
        let started = now();
        self.process = self.launch.spawn()?;
        self.target.pid = Some(self.process.pid());
        Ok(started)
    }

    /// Waits until the server accepts connections and `/ping` is OK.
    ///
    /// # Errors
    /// Returns [`Failure::Late`], or [`Failure::Exited`] if the server has ended.
    pub(crate) fn await_ready(&mut self, limit: &Limit) -> Result<(), Failure> {
        loop {
            if let Some(status) = self.process.exited()? {
                return Err(Failure::Exited(status));
            }
            let answers = TcpStream::connect(self.target.endpoint.address).is_ok()
                && self.target.http.is_none_or(|at| http::request(at, "GET", "/ping").is_ok());
            if answers {
                return Ok(());
            }
            limit.check("waiting for the server to come up")?;
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the size of the server's log.
    pub(crate) fn log_bytes(&self) -> u64 {
        let size = |name| fs::metadata(self.launch.directory.join(name)).map_or(0, |log| log.len());
        size("stdout") + size("stderr")
    }

    /// Returns the beginning and end of the server's log, as text to append to a failure.
    pub(crate) fn log_ends(&self) -> String {
        let read = |name| read_ends(&self.launch.directory.join(name)).unwrap_or_default();
        let log = [read("stdout"), read("stderr")].concat();
        let log = String::from_utf8_lossy(&log);
        ends(&log).map_or_else(String::new, |text| format!("; its log: {text}"))
    }
}

/// Reads the beginning and end of a log, which may be very large.
fn read_ends(path: &Path) -> io::Result<Vec<u8>> {
    let mut log = File::open(path)?;
    let mut text = Vec::new();
    (&mut log).take(LOG_READ_BYTES).read_to_end(&mut text)?;
    let bytes = log.metadata()?.len();
    log.seek(SeekFrom::Start(bytes.saturating_sub(LOG_READ_BYTES).max(text.len() as u64)))?;
    log.take(LOG_READ_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// Shortens a log to one line with its beginning and end; returns `None` if it is empty.
pub(crate) fn ends(log: &str) -> Option<String> {
    let text = log.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = |at| text.floor_char_boundary(at);
    if text.is_empty() {
        None
    } else if text.len() <= 2 * LOG_END_BYTES {
        Some(text)
    } else {
        let (begin, end) = (cut(LOG_END_BYTES), cut(text.len() - LOG_END_BYTES));
        Some(format!("{} [...] {}", &text[..begin], &text[end..]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.end();
        scratch::remove(&self.launch.directory);
    }
}

/// Returns the flags for a memory queue that holds `messages`.
pub(crate) fn memory_queue_for(messages: usize) -> [String; 2] {
    ["-mem-queue-size".to_owned(), (messages + MEMORY_QUEUE_MARGIN).to_string()]
}

fn free_addresses(host: Ipv4Addr) -> io::Result<[SocketAddr; 2]> {
    let listen = |host| TcpListener::bind((host, 0));
    let (one, two) = (listen(host)?, listen(Ipv4Addr::LOCALHOST)?);
    Ok([one.local_addr()?, two.local_addr()?])
}

/// Raises the limit of open files, for this process and the servers, as far as the system allows.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn raise_open_files() -> Result<(), Failure> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .map_err(Failure::os("raise the limit of open files"))
}
