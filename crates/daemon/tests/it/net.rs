//! Listeners and connections, over TCP and unix sockets alike.

use std::{fs, future::poll_fn, io, path::Path};

use nsq_daemon::net::{AnyListener, Listener, Remote, Socket, listen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

async fn listen_at(path: &Path) -> Result<AnyListener, String> {
    listen(path.to_str().unwrap()).await.map_err(|error| error.to_string())
}

/// The file of a unix socket whose process was killed.
fn leave_socket(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

#[tokio::test]
async fn all_addresses_are_those_of_both_families_and_clients_are_known_by_their_own() {
    for address in ["0.0.0.0:0", ":0", "[::]:0"] {
        let mut listener = listen(address).await.unwrap();
        let local = listener.socket_addr().unwrap();
        assert!(local.ip().is_unspecified());
        for host in ["127.0.0.1", "::1"] {
            let client = match TcpStream::connect((host, local.port())).await {
                // A machine without IPv6.
                Err(_) if host == "::1" && local.is_ipv4() => continue,
                connected => connected.unwrap(),
            };
            let (_, remote) = listener.accept().await.unwrap();
            assert_eq!(remote, Remote::Tcp(client.local_addr().unwrap()), "{address}");
        }
    }
}

#[tokio::test]
async fn a_socket_file_is_removed_with_its_last_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut listener = listen_at(&path).await.unwrap();
    let clone = listener.clone();
    drop(clone);
    let _client = UnixStream::connect(&path).await.unwrap();
    let (_, remote) = listener.accept().await.unwrap();
    assert_eq!((remote, listener.socket_addr()), (Remote::Unix, None));
    assert_eq!(listener.local(), path.display().to_string());
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_file_that_another_process_has_put_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = listen_at(&path).await.unwrap();
    fs::rename(&path, folder.path().join("moved")).unwrap();
    leave_socket(&path);
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_file_that_a_killed_process_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    leave_socket(&path);
    let mut listener = listen_at(&path).await.unwrap();
    let _client = UnixStream::connect(&path).await.unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_name_with_an_at_sign_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    // Unique on the machine, as the name of the folder is.
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    let mut listener = listen(&format!("@{name}")).await.unwrap();
    assert_eq!(listener.local(), format!("@{name}"));
    let _client = UnixStream::connect(format!("\0{name}")).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1, Remote::Unix);
    assert!(!Path::new(&format!("@{name}")).exists());
}

#[tokio::test]
async fn a_path_in_use_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("s"), folder.path().join("f"));
    let mut listener = listen_at(&path).await.unwrap();
    fs::write(&file, "a letter").unwrap();
    for path in [&path, &file] {
        let error = listen_at(path).await.unwrap_err();
        let expected = "failed - bind: address already in use";
        assert_eq!(error, format!("listen ({}) {expected}", path.display()));
    }
    assert_eq!(fs::read(&file).unwrap(), b"a letter");
    // The attempt has connected; the listener may see that and goes on.
    let _client = UnixStream::connect(&path).await.unwrap();
    listener.accept().await.unwrap();
    let missing = folder.path().join("missing/s");
    let error = listen_at(&missing).await.unwrap_err();
    assert!(error.ends_with(" failed - bind: no such file or directory"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_in_use_or_no_port_is_refused() {
    let taken = listen("127.0.0.1:0").await.unwrap().socket_addr().unwrap();
    let listener = listen(&taken.to_string()).await.unwrap();
    for (address, reason) in [
        (taken.to_string(), "bind: address already in use"),
        ("127.0.0.1:65536".to_owned(), "address 65536: invalid port"),
    ] {
        let error = listen(&address).await.unwrap_err().to_string();
        assert_eq!(error, format!("listen ({address}) failed - {reason}"));
    }
    drop(listener);
}

#[tokio::test]
async fn a_connection_can_move_to_another_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut unix = listen_at(&path).await.unwrap();
    let mut tcp = listen("127.0.0.1:0").await.unwrap();
    let address = tcp.socket_addr().unwrap();
    for (listener, mut client) in [
        (&mut tcp, Socket::Tcp(TcpStream::connect(address).await.unwrap())),
        (&mut unix, Socket::Unix(UnixStream::connect(&path).await.unwrap())),
    ] {
        let (accepted, _) = listener.accept().await.unwrap();
        let moved = AnyListener::establish(accepted).await.unwrap().into_std().unwrap();
        let echo = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut socket = Socket::from_std(moved)?;
                let mut bytes = [0; 4];
                socket.read_exact(&mut bytes).await?;
                poll_fn(|cx| socket.poll_write_ready(cx)).await?;
                socket.try_write_vectored(&[io::IoSlice::new(&bytes), io::IoSlice::new(b"!")])
            })
        });
        client.write_all(b"echo").await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "echo!");
        assert_eq!(echo.await.unwrap().unwrap(), 5);
    }
}
