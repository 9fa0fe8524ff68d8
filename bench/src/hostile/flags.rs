//! The flags that a server knows, read from its usage.

use std::{collections::BTreeSet, process::Stdio};

use crate::{failure::Failure, leash, server::Spec};

/// The names of the flags that a server knows.
pub(super) struct Flags(BTreeSet<String>);

impl Flags {
    /// Asks the server's program.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(super) fn of(spec: &Spec) -> Result<Self, Failure> {
        let mut command = leash::command(&spec.program)?;
        let output = command.arg("--help").stdin(Stdio::null()).output();
        let output = output.map_err(Failure::io(format!("run {}", spec.program.display())))?;
        Ok(Self::parse(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat())))
    }

    /// Finds the flags in the text of a usage: each is the first word of an indented line.
    fn parse(usage: &str) -> Self {
        let name = |line: &str| {
            let flag = line.strip_prefix("  -")?.split_whitespace().next()?;
            Some(flag.trim_start_matches('-').to_owned())
        };
        Self(usage.lines().filter_map(name).collect())
    }

    /// Returns whether the server knows `flag`, which is written `-name=value`.
    pub(super) fn know(&self, flag: &str) -> bool {
        let name = flag.trim_start_matches('-').split('=').next().unwrap_or_default();
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_known_by_its_name_alone() {
        let flags =
            Flags::parse("Usage of nsqd:\n  -max-topics int\n    \t-other topics\n  --verbose\n");
        assert!(flags.know("-max-topics=3") && flags.know("-verbose"));
        assert!(!flags.know("-max=3") && !flags.know("-other"));
    }
}
