//! The servers that a command line names.

use crate::{
    failure::Failure,
    server::Spec,
    target::Kind,
    words::{Words, usage},
};

/// The servers named so far.
#[derive(Default)]
pub(crate) struct Servers<'a> {
    ours: Vec<Spec>,
    others: Vec<Spec>,
    args: Vec<(&'a str, &'a str)>,
}

impl<'a> Servers<'a> {
    /// Takes `--nsqd`, `--other` or `--args` with its value. Returns false for any other flag.
    ///
    /// # Errors
    /// Returns [`Failure::Usage`] for an invalid value, or the system's error if there is no such program.
    pub(crate) fn take(&mut self, flag: &str, words: &mut Words<'a>) -> Result<bool, Failure> {
        match flag {
            "--nsqd" => self.ours.push(Spec::ours(words.value(flag)?)?),
            "--other" => {
                let (name, path) = words.pair(flag)?;
                self.others.push(Spec::nsqd(name, path)?);
            }
            "--args" => self.args.push(words.pair(flag)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the servers in the order of their columns, `last` at the end, and the column that ratios refer
    /// to.
    ///
    /// # Errors
    /// Returns [`Failure::Usage`] if there are none, two have the same name, or flags are for none of them.
    pub(crate) fn finish(self, last: Option<Spec>) -> Result<(Vec<Spec>, Option<usize>), Failure> {
        let reference = (!self.others.is_empty()).then_some(self.ours.len());
        let mut servers = self.ours;
        servers.extend(self.others);
        servers.extend(last);
        add_args(&mut servers, &self.args)?;
        check_names(&servers)?;
        Ok((servers, reference))
    }
}

fn add_args(servers: &mut [Spec], extra_args: &[(&str, &str)]) -> Result<(), Failure> {
    for (name, flags) in extra_args {
        let server = servers
            .iter_mut()
            .find(|server| server.name == *name && server.kind == Kind::Nsqd)
            .ok_or_else(|| usage(format!("--args {name}=…: there is no such nsqd")))?;
        server.args.extend(flags.split_whitespace().map(str::to_owned));
    }
    Ok(())
}

fn check_names(servers: &[Spec]) -> Result<(), Failure> {
    if servers.is_empty() {
        return Err(usage("there is no server to run: give --nsqd or --other"));
    }
    for (index, server) in servers.iter().enumerate() {
        if servers[..index].iter().any(|other| other.name == server.name) {
            return Err(usage(format!("two servers are called {}", server.name)));
        }
    }
    Ok(())
}
