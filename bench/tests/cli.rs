//! The program as users run it, with servers that do not need nsqd.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nsq-bench"))
}

fn run(args: &[&str], scratch: &Path) -> Output {
    bench().args(args).arg("--scratch").arg(scratch).output().expect("the bench starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that accepts any flags, writes its process id to a file beside it and never answers.
fn deaf_server(directory: &Path) -> PathBuf {
    let path = directory.join("deaf");
    let pid = directory.join("pid");
    let script =
        format!("#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 600\n", pid.display());
    fs::write(&path, script).expect("the script is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it may be executed");
    path
}

/// A null server, killed when the test ends.
struct Null {
    child: Child,
    address: SocketAddr,
}

impl Null {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("there is a free port");
        let child = bench().args(["null", "--address", &address.to_string()]).spawn();
        let null = Self { child: child.expect("the null server starts"), address };
        until(|| TcpStream::connect(address).is_ok());
        null
    }

    fn load(&self, args: &[&str]) -> Output {
        let address = self.address.to_string();
        let mut command = bench();
        command.arg("load").args(args).args(["--address", &address]);
        command.output().expect("the load starts")
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        self.child.kill().expect("the null server still runs");
        self.child.wait().expect("it can be waited for");
    }
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

fn is_gone(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

#[test]
fn the_null_server_alone_fills_the_rows_it_can_take_part_in() {
    let scratch = tempfile::tempdir().unwrap();
    let json = scratch.path().join("numbers.json");
    let output =
        run(&["--quick", "--rounds", "2", "--json", json.to_str().unwrap()], scratch.path());
    assert!(output.status.success(), "{}", text(&output.stderr));

    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let results = report["results"].as_array().unwrap();
    let measured = |name: &str| {
        let result = results.iter().find(|result| result["workload"] == name).unwrap();
        result["metrics"].as_array().unwrap().iter().any(|metric| {
            let rounds = metric["rounds"].as_array().unwrap();
            rounds.len() == 2 && rounds.iter().all(|value| value.as_f64().unwrap() > 0.0)
        })
    };
    for name in ["mpub200", "subfin", "both", "rdy1", "pub1", "pipe", "conns2000"] {
        assert!(measured(name), "{name}: {report:#}");
    }
    for name in [
        "backlog",
        "latency",
        "channels8",
        "topics2000",
        "deferred",
        "churn",
        "slow20",
        "slow300",
        "fsync40",
    ] {
        assert!(!measured(name), "{name}: {report:#}");
    }
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the JSON file is left: {left:?}");
}

#[test]
fn a_server_that_does_not_answer_is_reported_as_failed_and_the_others_are_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let deaf = format!("deaf={}", deaf_server(scratch.path()).display());
    let args = ["--other", &deaf, "--other", "ends=/bin/false"];
    let rest = ["--quick", "--only", "pub1", "--limit", "1"];
    let output = run(&[&args[..], &rest[..]].concat(), scratch.path());
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    let cells: Vec<_> = table.lines().nth(2).unwrap().split('|').map(str::trim).collect();
    assert_eq!(cells[2..5], ["rate", "failed", "failed"]);
    assert!(cells[5].ends_with(" k/s"), "{table}");
    assert!(table.contains(
        "pub1 on deaf, round 1: failed: server process: it did not come up: not complete after 1 s"
    ));
    assert!(table.contains(
        "pub1 on ends, round 1: failed: server process: it did not come up: it ended with"
    ));
    let pid = fs::read_to_string(scratch.path().join("pid")).unwrap();
    assert!(is_gone(pid.trim().parse().unwrap()));
}

#[test]
fn a_bench_that_is_interrupted_or_killed_leaves_no_server_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let directory = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let deaf = format!("deaf={}", deaf_server(directory.path()).display());
        let mut bench = bench()
            .args(["--other", &deaf, "--only", "pub1", "--scratch"])
            .arg(scratch.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until(|| directory.path().join("pid").exists());
        let server = fs::read_to_string(directory.path().join("pid")).unwrap();
        kill(Pid::from_raw(bench.id().cast_signed()), signal).unwrap();
        bench.wait().unwrap();
        until(|| is_gone(server.trim().parse().unwrap()));
        if signal != Signal::SIGKILL {
            assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "{signal}");
        }
    }
}

/// Runs rows at their small size on this project's nsqd. Returns the table and the report.
fn rows_of_our_nsqd(only: &str) -> (String, Value) {
    let scratch = tempfile::tempdir().expect("there is room");
    let json = scratch.path().join("numbers.json");
    let nsqd = env!("CARGO_BIN_EXE_nsq-bench-nsqd");
    let other = format!("other={nsqd}");
    let args = ["--nsqd", nsqd, "--other", &other, "--no-null", "--quick", "--only", only];
    let args = [&args[..], &["--json", json.to_str().expect("is UTF-8")]].concat();
    let output = run(&args, scratch.path());
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    let json = fs::read(&json).expect("the report is written");
    (table, serde_json::from_slice(&json).expect("it is JSON"))
}

/// The median of a metric of this project's nsqd in a report with one row.
fn median(report: &Value, metric: &str) -> f64 {
    let metrics = report["results"][0]["metrics"].as_array().expect("it has metrics");
    let found = metrics.iter().find(|known| known["name"] == metric);
    found.and_then(|found| found["median"].as_f64()).expect("it was measured")
}

#[test]
fn only_our_nsqd_is_put_on_a_slow_disk() {
    let (table, report) = rows_of_our_nsqd("fsync40");
    let cells: Vec<_> = table.lines().nth(2).unwrap().split('|').map(str::trim).collect();
    assert!(cells[3].ends_with("/s") && cells[4] == "-", "{table}");
    assert!(median(&report, "1 topic p50") >= 5e3, "a flush takes 5 ms: {report:#}");
}

#[test]
fn work_beside_the_measured_topics_goes_on_while_the_disk_is_slow() {
    let (_, report) = rows_of_our_nsqd("slow20");
    for metric in ["publish p99.9", "deliver p99.9", "DPUBs beside", "new channels beside"] {
        assert!(median(&report, metric) > 0.0, "{metric}: {report:#}");
    }
}

#[test]
fn memory_of_deleted_topics_and_drained_backlogs_is_given_back() {
    let (_, report) = rows_of_our_nsqd("churn");
    let growth = median(&report, "growth (10 MB allowed)");
    assert!(growth <= 10e6, "{growth} bytes more than before");
}

#[test]
fn a_running_server_can_be_loaded() {
    let null = Null::start();
    let pid = null.child.id().to_string();
    let output = null.load(&["mpub200", "--size", "1234", "--pid", &pid]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for name in ["rate", "CPU/msg", "peak memory"] {
        assert!(text(&output.stdout).lines().any(|line| line.starts_with(name)));
    }
}

#[test]
fn a_server_that_runs_already_is_not_killed_and_started_again() {
    let null = Null::start();
    let output = null.load(&["deferred", "--size", "10"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "nsq-bench: deferred needs a server that it can kill\n");
}

/// The cells of the line of a neighbour and a server, by their headings.
fn cells_of(table: &str, neighbour: &str, server: &str) -> BTreeMap<String, String> {
    let split = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let heading = split(table.lines().next().expect("there is a heading"));
    let lines = table.lines().map(split);
    let line =
        lines.filter(|cells| cells.len() > 3).find(|cells| cells[1..3] == [neighbour, server]);
    heading.into_iter().zip(line.expect("there is a line")).collect()
}

#[test]
fn honest_clients_are_measured_beside_each_hostile_neighbour_of_each_server() {
    let scratch = tempfile::tempdir().unwrap();
    let nsqd = env!("CARGO_BIN_EXE_nsq-bench-nsqd");
    let output = run(
        &["hostile", "--nsqd", nsqd, "--other", "ends=/bin/false", "--quick", "--limit", "20"]
            .into_iter()
            .chain(["--only", "ephemeral_flood,named_channels"])
            .collect::<Vec<_>>(),
        scratch.path(),
    );
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}{}", text(&output.stderr));
    for neighbour in ["ephemeral_flood", "named_channels"] {
        let cells = cells_of(&table, neighbour, "nsqd");
        for heading in ["publish p99", "deliver p99", "newcomer p99"] {
            assert!(!cells[heading].contains("failed"), "{table}");
        }
        assert_ne!(cells["sent"], "0.00", "{table}");
        assert_eq!(cells_of(&table, neighbour, "ends")["sent"], "failed", "{table}");
    }
    let unknown = "- ephemeral_flood on ends: without -max-ephemeral-memory=268435456, which it";
    assert!(table.contains(unknown) && !table.contains("ephemeral_flood on nsqd:"), "{table}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_server_opens_no_more_files_than_it_is_allowed() {
    let parent = std::process::id().to_string();
    let ulimit = ["leash", &parent, "64", "/bin/sh", "-c", "ulimit -n"];
    let output = bench().args(ulimit).output().unwrap();
    assert_eq!(text(&output.stdout), "64\n", "{}", text(&output.stderr));
}

/// Controls a client as the bench does, and returns the words that it says.
fn be_the_bench_of(client: &mut Child) -> Vec<String> {
    let output = client.stdout.take().expect("its output is a pipe");
    let mut words = BufReader::new(output).lines().map_while(Result::ok);
    let mut said = Vec::from_iter(words.next());
    let input = client.stdin.as_mut().expect("its input is a pipe");
    input.write_all(b"go\n").expect("it reads its input");
    said.extend(words.by_ref().find(|word| word == "all"));
    drop(client.stdin.take());
    said.extend(words);
    said
}

#[test]
fn the_raw_client_says_when_it_is_ready_and_when_all_is_done_and_ends_with_its_input() {
    let null = Null::start();
    let common = format!("-addresses={} -topic=t -channel=c -messages=1000", null.address);
    for command in ["consume -max-in-flight=100", "publish -batch=1 -window=10"] {
        let mut client = bench()
            .arg("raw-client")
            .args(command.split(' '))
            .args(common.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(be_the_bench_of(&mut client), ["ready", "all"], "{command}");
        assert!(client.wait().unwrap().success(), "{command}");
    }
}

#[test]
fn a_client_that_cannot_connect_says_why_and_fails() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let options = [format!("-addresses={}", free.unwrap()), "-topic=t".to_owned()];
    let mut client = Command::new(env!("CARGO_BIN_EXE_nsq-bench-client"))
        .args(["publish", "-messages=1", "-body-bytes=8", "-batch=1", "-window=1"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(be_the_bench_of(&mut client), ["ready"]);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("nsq-bench-client: "));
}

#[test]
fn without_go_the_other_clients_are_compared_and_it_is_told_who_is_missing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = bench();
    command.args(["client", "--nsqd", "/bin/false", "--quick", "--only", "publish", "--scratch"]);
    let output = command.arg(scratch.path()).env("PATH", "").output().unwrap();
    let table = text(&output.stdout);
    assert!(text(&output.stderr).starts_with("!!!!! go-nsq is left out: there is no Go toolchain"));
    assert!(table.contains("\nWITHOUT go-nsq: there is no Go toolchain"), "{table}");
    let heading: Vec<_> = table.lines().next().unwrap().split('|').map(str::trim).collect();
    assert_eq!(heading[3..6], ["rust", "rust, 1 thread", "raw"]);
}

#[test]
fn a_client_whose_server_does_not_come_up_is_reported_as_failed() {
    let scratch = tempfile::tempdir().unwrap();
    let args = ["client", "--nsqd", "/bin/false", "--no-go", "--quick", "--only", "publish"];
    let output = run(&args, scratch.path());
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    for client in ["rust", "rust, 1 thread", "raw"] {
        let note = format!("publish on {client}, round 1: failed: server process: it did not come");
        assert!(table.contains(&note), "{table}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn messages_that_were_not_published_fail_the_run() {
    let null = Null::start();
    let output = null.load(&["subfin", "--size", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    let reason = "nsq-bench: wrong messages: a body of 200 bytes that was not published\n";
    assert_eq!(text(&output.stderr), reason);
}
