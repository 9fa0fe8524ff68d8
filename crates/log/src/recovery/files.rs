//! Reading a data folder without trusting its contents.

use std::path::{Path, PathBuf};

use crate::{
    disk::Disk,
    error::{Context, IoError},
    segment::{SEGMENT_HEADER_BYTES, SegmentHeader, parse_segment_name, segment_path},
};

/// Removes files that were being written when the process stopped, and returns the names of the others.
pub(super) fn clean_and_list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, IoError> {
    let mut names = disk.list(dir).context("list", dir)?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        let path = dir.join(name);
        disk.remove(&path).context("remove", &path)?;
    }
    names.retain(|name| !name.ends_with(".tmp"));
    Ok(names)
}

/// Reads a whole small file; `None` if there is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoError::new("open", path, error)),
    };
    let length = file.len().context("measure", path)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, 0).context("read", path)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// The first segment number above all that are in use. Directories that cannot be read are passed over: the
/// reserved numbers cover them.
pub(crate) fn next_segment(disk: &dyn Disk, topics: &[PathBuf]) -> u32 {
    let mut next = 0;
    for dir in topics {
        let names = disk.list(dir).unwrap_or_default();
        let numbers = names.iter().filter_map(|name| parse_segment_name(name));
        next = numbers.map(|number| number.saturating_add(1)).fold(next, u32::max);
    }
    next
}

/// The node id and incarnation in the newest readable segment header.
pub(crate) fn newest_writer(disk: &dyn Disk, topics: &[PathBuf]) -> Option<([u8; 16], u32)> {
    let mut newest: Option<SegmentHeader> = None;
    for dir in topics {
        for name in disk.list(dir).unwrap_or_default() {
            let number = parse_segment_name(&name);
            let header = number.and_then(|number| read_header(disk, &segment_path(dir, number)));
            if let Some(header) = header
                && newest.is_none_or(|known| known.number < header.number)
            {
                newest = Some(header);
            }
        }
    }
    newest.map(|header| (header.node_id, header.incarnation))
}

fn read_header(disk: &dyn Disk, path: &Path) -> Option<SegmentHeader> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let read = disk.open(path).ok()?.read_at(&mut header, 0).ok()?;
    SegmentHeader::decode(&header[..read]).ok()
}
