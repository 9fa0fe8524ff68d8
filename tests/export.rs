//! `nsq export` as an operator types it.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn export(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nsq")).arg("export").args(args).output().unwrap()
}

#[test]
fn export_takes_two_folders() {
    let folder = Path::new("folder");
    for args in [&[][..], &[folder], &[folder, folder, folder]] {
        let output = export(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let what = "nsq: export takes a data folder and the folder to write";
        assert_eq!(stderr.lines().next(), Some(what));
    }
}

#[test]
fn an_export_lists_the_queues_that_it_has_written() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("topics")).unwrap();
    let catalog = r#"{"topics":[{"name":"t","paused":false,"channels":null}],"version":"1.3.0"}"#;
    std::fs::create_dir(data.path().join("topics/known.topic")).unwrap();
    std::fs::write(data.path().join("nsqd.dat"), catalog).unwrap();
    let target = data.path().join("target");
    let output = export(&[data.path(), &target]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.ends_with(b"known: 0 messages\n"), "{output:?}");
    let written = std::fs::read_to_string(target.join("nsqd.dat")).unwrap();
    for topic in [r#"{"name":"known","#, r#"{"name":"t","#] {
        assert!(written.contains(topic), "{written}");
    }

    let again = export(&[data.path(), &target]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert_eq!(stderr, format!("nsq export: {} is not empty\n", target.display()));
}
