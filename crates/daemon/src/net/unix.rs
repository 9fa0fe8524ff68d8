//! Unix sockets that are listened on.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Listens on a path. The socket that a killed process has left there is replaced: nothing listens on it. A path that
/// begins with `@` is the name of a socket without a file, as in NSQ.
///
/// If two processes replace the same socket at once, one of them may end up unreachable. Both are configured to use one
/// address then, which can work for one only.
pub(super) async fn bind(path: &Path) -> io::Result<(UnixListener, Option<SocketFile>)> {
    if let [b'@', name @ ..] = path.as_os_str().as_bytes() {
        // In the form that the operating system gives such names.
        let name = [b"\0", name].concat();
        return Ok((UnixListener::bind(OsStr::from_bytes(&name))?, None));
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path).await => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    Ok((listener, SocketFile::at(path)))
}

/// The path or the name that a socket listens at.
pub(super) fn name(listener: &UnixListener) -> String {
    let Ok(address) = listener.local_addr() else { return "@".to_owned() };
    match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => path.display().to_string(),
        (None, name) => format!("@{}", name.unwrap_or_default().escape_ascii()),
    }
}

/// Returns whether a path is a socket that no process listens on.
async fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).await.is_err_and(refused)
}

/// The file of a unix socket, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> Option<Self> {
        // The folder that is the current one may be another later.
        let path = std::path::absolute(path).ok()?;
        let file = fs::symlink_metadata(&path).ok()?;
        Some(Self { path, device: file.dev(), inode: file.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_this = |file: fs::Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        // A file that another process has put there meanwhile is not ours to remove.
        if fs::symlink_metadata(&self.path).is_ok_and(is_this) {
            // A file that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}
