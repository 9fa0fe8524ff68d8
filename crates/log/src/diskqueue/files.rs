//! The names of queue files, and the queues of a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{
    disk::Disk,
    error::{Context, IoError},
};

const MARK: &str = ".diskqueue.";

/// The part that a file plays in its queue.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Messages.
    Data(u64),
    /// Messages that the Go nsqd could not read.
    Bad,
    Meta,
    /// A file that was being written.
    Temporary,
}

/// The files of a queue.
#[derive(Debug, Default)]
pub(crate) struct QueueFiles {
    /// The numbers of the data files.
    pub(super) data: BTreeSet<u64>,
    /// The names of files that were set aside.
    pub(super) bad: BTreeSet<String>,
    pub(super) has_meta: bool,
}

/// The queues that have files in a folder, by name.
pub(crate) fn find_queues(
    disk: &dyn Disk,
    folder: &Path,
) -> Result<BTreeMap<String, QueueFiles>, IoError> {
    let mut queues: BTreeMap<String, QueueFiles> = BTreeMap::new();
    for name in disk.list(folder).context("list", folder)? {
        let Some((queue, part)) = parse(&name) else { continue };
        let files = queues.entry(queue.to_owned()).or_default();
        match part {
            Part::Data(number) => drop(files.data.insert(number)),
            Part::Bad => drop(files.bad.insert(name)),
            Part::Meta => files.has_meta = true,
            Part::Temporary => {}
        }
    }
    Ok(queues)
}

/// Returns true if a file of this name belongs to a queue.
pub(crate) fn is_queue_file(name: &str) -> bool {
    parse(name).is_some()
}

/// Splits a file name into the queue and the part.
fn parse(name: &str) -> Option<(&str, Part)> {
    // Names of topics may contain the mark.
    let (queue, rest) = name.rsplit_once(MARK)?;
    if queue.is_empty() {
        return None;
    }
    let (stem, rest) = rest.split_once(".dat")?;
    let number =
        || stem.parse().ok().filter(|number| data_name(queue, *number).len() <= name.len());
    let digits = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    let part = match (stem, rest) {
        ("meta", "") => Part::Meta,
        ("meta", rest) if rest.ends_with(".tmp") => Part::Temporary,
        (_, "") if digits => Part::Data(number()?),
        (_, rest) if digits && rest.starts_with(".bad") => Part::Bad,
        _ => return None,
    };
    Some((queue, part))
}

/// The name of a data file.
pub(super) fn data_name(queue: &str, number: u64) -> String {
    format!("{queue}{MARK}{number:06}.dat")
}

/// The name of the meta file.
pub(super) fn meta_name(queue: &str) -> String {
    format!("{queue}{MARK}meta.dat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_queue_and_part() {
        for (name, queue, part) in [
            ("t.diskqueue.000000.dat", "t", Part::Data(0)),
            ("t:c.diskqueue.1234567.dat", "t:c", Part::Data(1_234_567)),
            ("t.diskqueue.meta.dat", "t", Part::Meta),
            ("t.diskqueue.000012.dat.bad", "t", Part::Bad),
            ("t.diskqueue.meta.dat.5577006791947779410.tmp", "t", Part::Temporary),
            ("a.diskqueue.b.diskqueue.000001.dat", "a.diskqueue.b", Part::Data(1)),
        ] {
            assert_eq!(parse(name), Some((queue, part)), "{name}");
        }
        assert_eq!(data_name("t:c", 1_234_567), "t:c.diskqueue.1234567.dat");
    }

    #[test]
    fn other_files_belong_to_no_queue() {
        for name in [
            "nsqd.dat",
            "node",
            ".diskqueue.000000.dat",
            "t.diskqueue.dat",
            "t.diskqueue..dat",
            "t.diskqueue.000000",
            "t.diskqueue.00x000.dat",
            "t.diskqueue.7.dat",
            "t.diskqueue.000000.dat~",
        ] {
            assert!(!is_queue_file(name), "{name}");
        }
    }
}
