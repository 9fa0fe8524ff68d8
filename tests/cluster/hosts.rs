//! Hosts on one machine: network namespaces on a bridge in a namespace of its own, isolated from the machine's network.

use std::{
    io::Write,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// Set in the process that runs inside the hub.
const INSIDE: &str = "NSQ_CLUSTER_HUB";

/// The namespace of the bridge and of the test itself.
pub(crate) struct Hub {
    name: String,
}

/// A host with an address of its own.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    namespace: String,
    pub(crate) address: String,
    link: String,
}

/// Runs `story` inside a hub: directly when this process is in one, otherwise by running the same test in a process
/// that is.
pub(crate) fn in_hub(test: &str, story: impl FnOnce(&Hub)) {
    if let Ok(name) = std::env::var(INSIDE) {
        story(&Hub { name });
        return;
    }
    // Tests of this process run concurrently, each with its own hub.
    static HUBS: AtomicU32 = AtomicU32::new(0);
    let number = HUBS.fetch_add(1, Ordering::Relaxed);
    let hub = Hub { name: format!("nsq{}x{number}", std::process::id()) };
    if let Err(error) = hub.set_up() {
        hub.tear_down();
        let text = format!("SKIPPED: {test} needs network namespaces: {error}");
        assert!(std::env::var_os("CI").is_none(), "{text}, and in CI nothing may be skipped");
        // Not by a macro: the test harness hides its output when the test passes.
        let _ = writeln!(std::io::stderr(), "!! {text}");
        return;
    }
    let status = Command::new("ip")
        .args(["netns", "exec", &hub.name])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, &hub.name)
        .status();
    hub.tear_down();
    assert!(status.unwrap().success(), "{test} failed inside of its namespace");
}

impl Hub {
    fn set_up(&self) -> Result<(), String> {
        let hub = self.name.as_str();
        ip(&["netns", "add", hub])?;
        ip(&["-n", hub, "link", "set", "lo", "up"])?;
        ip(&["-n", hub, "link", "add", "bridge0", "type", "bridge"])?;
        ip(&["-n", hub, "addr", "add", "10.83.0.254/24", "dev", "bridge0"])?;
        ip(&["-n", hub, "link", "set", "bridge0", "up"])?;
        Ok(())
    }

    fn tear_down(&self) {
        let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = names.lines().filter_map(|line| line.split_whitespace().next());
        for name in
            ours.filter(|name| *name == self.name || name.starts_with(&format!("{}-", self.name)))
        {
            // A namespace that cannot be removed does not change the result.
            let _ = ip(&["netns", "del", name]);
        }
    }

    /// A new host whose address ends in `number`.
    pub(crate) fn host(&self, number: u8) -> Host {
        let (hub, namespace) = (self.name.as_str(), format!("{}-{number}", self.name));
        let (link, address) = (format!("veth{number}"), format!("10.83.0.{number}"));
        let steps: [&[&str]; 7] = [
            &["netns", "add", &namespace],
            &[
                "-n", hub, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ],
            &["-n", hub, "link", "set", &link, "master", "bridge0"],
            &["-n", hub, "link", "set", &link, "up"],
            &["-n", &namespace, "link", "set", "lo", "up"],
            &["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"],
            &["-n", &namespace, "link", "set", "eth0", "up"],
        ];
        for step in steps {
            ip(step).unwrap();
        }
        Host { namespace, address, link }
    }

    /// Plugs in or unplugs the network cable of a host.
    pub(crate) fn cable(&self, host: &Host, plugged: bool) {
        ip(&["-n", &self.name, "link", "set", &host.link, if plugged { "up" } else { "down" }])
            .unwrap();
    }
}

impl Host {
    /// A command that runs on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    pub(crate) fn port(&self, port: u16) -> String {
        format!("{}:{port}", self.address)
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
