//! The log of a process that ends: nothing that it still had to say is lost.

use std::{
    env,
    process::{Command, abort},
    thread,
};

use nsq_daemon::{
    cli::log_panics,
    log::{FlushGuard, Level, Logger, flush},
};

/// Tells [`child`] that it is one.
const ROLE: &str = "NSQ_LOG_TEST_ROLE";
const LINES: usize = 5000;

/// Not a test but the process that the tests start.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let _flush = FlushGuard::default();
    let logger = Logger::new("[child] ", Level::Info);
    log_panics(logger.clone());
    for number in 0..LINES {
        logger.info(format_args!("{number}"));
    }
    if role == "abort" {
        flush();
        let panicked = thread::Builder::new().name("worker".to_owned());
        let _ = panicked.spawn(|| panic!("first\nsecond")).unwrap().join();
        abort();
    }
}

/// The texts that a process with this role writes to stderr.
fn texts_of(role: &str) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "log::child", "--nocapture"]).env(ROLE, role);
    let output = child.env_remove("RUST_BACKTRACE").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    stderr
        .lines()
        .map(|line| line.split_at("[child] 2026/11/22 16:17:21.079313 ".len()).1.to_owned())
        .collect()
}

#[test]
fn all_lines_are_written_before_a_process_ends() {
    let expected: Vec<_> = (0..LINES).map(|number| format!("INFO: {number}")).collect();
    assert_eq!(texts_of("end"), expected);
}

#[test]
fn a_panic_is_one_line_that_is_written_even_if_the_process_aborts() {
    let texts = texts_of("abort");
    assert_eq!(texts.len(), LINES + 1);
    let panic = &texts[LINES];
    assert!(
        panic.starts_with("ERROR: thread worker panicked at crates/daemon/tests/it/log.rs:"),
        "{panic}"
    );
    assert!(panic.ends_with(":\\nfirst\\nsecond"), "{panic}");
}
