//! Stops on a disk that takes long.

use std::{sync::Arc, thread, time::Duration};

use nsq_daemon::log::Logger;
use nsq_log::testing::Stop;
use nsqd::{Nsqd, Options, RunError, World};
use tokio::sync::oneshot;

use crate::{
    held_disk::{Call, HeldDisk},
    machine::{FOLDER, Machine},
    support::Client,
};

/// An nsqd whose end is watched.
struct Ending {
    client: Client,
    stop: oneshot::Sender<()>,
    ended: thread::JoinHandle<Result<(), RunError>>,
}

fn start(machine: &Machine, disk: &HeldDisk, shutdown_timeout: Duration) -> Ending {
    let world = World { disk: Arc::new(disk.clone()), clocks: Arc::new(machine.clocks.clone()) };
    let options = Options {
        data_path: FOLDER.into(),
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: String::new(),
        shutdown_timeout,
        ..Options::default()
    };
    let (stop, stopped) = oneshot::channel();
    let (listens, address) = std::sync::mpsc::channel();
    let ended = thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ran = runtime.block_on(async {
            let nsqd = Nsqd::start_in(world, options, Logger::discard()).await.unwrap();
            listens.send(nsqd.tcp_address().unwrap()).unwrap();
            nsqd.run(async { stopped.await.unwrap() }).await
        });
        runtime.shutdown_background();
        ran
    });
    Ending { client: Client::connect(address.recv().unwrap()), stop, ended }
}

#[test]
fn a_stop_that_the_disk_holds_up_ends_in_time_and_loses_nothing() {
    let machine = Machine::new();
    let disk = HeldDisk::of(machine.disk.clone());
    let Ending { mut client, stop, ended } = start(&machine, &disk, Duration::from_millis(50));
    client.publish("t", b"acknowledged");
    let held = disk.hold(&[Call::Flush]);
    stop.send(()).unwrap();
    let error = ended.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "failed to close within 50ms - the next start recovers");
    // The process ends now.
    let server = machine.after(Stop::Kill).start(|_| ());
    assert_eq!(server.consumer("t", "c", 1).message().body, b"acknowledged");
    drop(held);
}

#[test]
fn a_stop_waits_for_the_disk_as_long_as_there_is_time() {
    let machine = Machine::new();
    let disk = HeldDisk::of(machine.disk.clone());
    let Ending { mut client, stop, ended } = start(&machine, &disk, Duration::from_secs(3600));
    client.publish("t", b"acknowledged");
    let held = disk.hold(&[Call::Flush]);
    stop.send(()).unwrap();
    held.wait_for(Call::Flush, "", 1);
    assert!(!ended.is_finished());
    drop(held);
    ended.join().unwrap().unwrap();
}
