//! Server processes: started fresh for each run, measured from outside, gone at the end.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    clock::now,
    failure::Failure,
    http,
    leash::{self, Leashed},
    limit::Limit,
    scratch::{self, Scratch},
    target::{Kind, Target},
};

/// Bytes of either end of a server's log that are shown when a run fails.
const LOG_END_BYTES: usize = 300;

/// Messages that the memory queue has room for beyond those of the workload.
const MEMORY_QUEUE_MARGIN: usize = 10_000;

/// A server to compare, as the command line names it.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The heading of its column.
    pub(crate) name: String,
    /// What kind of server it is.
    pub(crate) kind: Kind,
    /// The program; for the null server this program itself.
    pub(crate) program: PathBuf,
    /// Flags in addition to those of the workload.
    pub(crate) args: Vec<String>,
    /// The address it listens on for protocol V2: loopback, or unspecified for all of `127.0.0.0/8`.
    pub(crate) host: Ipv4Addr,
}

impl Spec {
    /// Describes the nsqd at `path`.
    ///
    /// # Errors
    /// The system's refusal, for instance when there is no such file.
    pub(crate) fn nsqd(name: &str, path: &str) -> Result<Self, Failure> {
        let program = fs::canonicalize(path).map_err(Failure::io(format!("find {path}")))?;
        Ok(Self::new(name, Kind::Nsqd, program))
    }

    /// Describes the null server, which is this program.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn null() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("find the own program"))?;
        Ok(Self::new("null", Kind::Null, program))
    }

    fn new(name: &str, kind: Kind, program: PathBuf) -> Self {
        let (name, args, host) = (name.to_owned(), Vec::new(), Ipv4Addr::LOCALHOST);
        Self { name, kind, program, args, host }
    }
}

/// How a server is started, for the first time and again.
struct Launch {
    spec: Spec,
    workload_args: Vec<String>,
    /// Holds the data and the logs.
    directory: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
}

impl Launch {
    /// Starts the process; its log is appended to.
    fn spawn(&self) -> Result<Leashed, Failure> {
        let mut command = leash::command(&self.spec.program)?;
        match self.spec.kind {
            Kind::Null => {
                command.args(["null", "--address"]).arg(self.address().to_string());
            }
            Kind::Nsqd => {
                command.args(["-tcp-address", &self.listen.to_string()]);
                command.args(["-http-address", &self.http.to_string()]);
                command.arg("-data-path").arg(self.data()).arg("-log-level=warn");
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

    /// The address to connect to, wherever the server listens besides.
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.listen.port()).into()
    }
}

/// A running server; it is killed and its data removed when this value goes.
pub(crate) struct Server {
    launch: Launch,
    process: Leashed,
    /// Where it is and what can be measured.
    pub(crate) target: Target,
}

impl Server {
    /// Starts a server with a data directory of its own on free ports and waits until it answers.
    ///
    /// Must be called from the main thread: the server is bound to the life of the thread that
    /// starts it.
    ///
    /// # Errors
    /// [`Failure::Server`] with the end of its log when it does not come up.
    pub(crate) fn start(
        spec: &Spec,
        workload_args: &[String],
        scratch: &mut Scratch,
        limit: &Limit,
    ) -> Result<Self, Failure> {
        let mut server = Self::spawn(spec, workload_args, scratch.next()?)?;
        match server.await_ready(limit) {
            Ok(()) => Ok(server),
            Err(failure) => {
                Err(Failure::Server(format!("it did not come up: {failure}{}", server.log_ends())))
            }
        }
    }

    fn spawn(spec: &Spec, workload_args: &[String], directory: PathBuf) -> Result<Self, Failure> {
        let [listen, http] = free_addresses(spec.host).map_err(Failure::io("find free ports"))?;
        let (spec, workload_args) = (spec.clone(), workload_args.to_vec());
        let launch = Launch { spec, workload_args, directory, listen, http };
        let data = launch.data();
        fs::create_dir(&data).map_err(Failure::io(format!("create {}", data.display())))?;
        let process = launch.spawn()?;
        let is_nsqd = launch.spec.kind == Kind::Nsqd;
        let target = Target {
            kind: launch.spec.kind,
            address: launch.address(),
            http: is_nsqd.then_some(http),
            pid: Some(process.pid()),
            data: is_nsqd.then_some(data),
        };
        Ok(Self { launch, process, target })
    }

    /// Kills the server and starts it again at once with the data it had. Returns when it was started,
    /// which is before it answers.
    ///
    /// Must be called from the main thread, as [`Server::start`].
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn kill_and_restart(&mut self) -> Result<Instant, Failure> {
        self.process.end();
        let started = now();
        self.process = self.launch.spawn()?;
        self.target.pid = Some(self.process.pid());
        Ok(started)
    }

    /// Waits until the server accepts connections and, over HTTP, says that it is well.
    ///
    /// # Errors
    /// The end of the limit, or how the server ended.
    pub(crate) fn await_ready(&mut self, limit: &Limit) -> Result<(), Failure> {
        loop {
            if let Some(status) = self.process.exited()? {
                return Err(Failure::Exited(status));
            }
            let answers = TcpStream::connect(self.target.address).is_ok()
                && self.target.http.is_none_or(|at| http::request(at, "GET", "/ping").is_ok());
            if answers {
                return Ok(());
            }
            limit.check("waiting for the server to come up")?;
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns how the server's log begins and ends, in words to append to a failure.
    pub(crate) fn log_ends(&self) -> String {
        let read = |name| fs::read(self.launch.directory.join(name)).unwrap_or_default();
        let log = [read("stdout"), read("stderr")].concat();
        let log = String::from_utf8_lossy(&log);
        ends(&log).map_or_else(String::new, |text| format!("; its log: {text}"))
    }
}

/// Shortens a log to one line with its beginning and its end; `None` when nothing is in it.
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

/// Allows this process, and so the servers, as many open files as the system lets it.
///
/// # Errors
/// The system's refusal.
pub(crate) fn raise_open_files() -> Result<(), Failure> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .map_err(Failure::os("raise the limit of open files"))
}
