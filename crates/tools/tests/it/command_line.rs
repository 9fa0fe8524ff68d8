//! The command line and its errors.

use crate::support::{NSQ_TAIL, TO_NSQ, run};

const NSQD: &str = "-nsqd-tcp-address=127.0.0.1:1";

/// Returns the only line on stderr, without date and time, of a tool that ends with code 1.
fn failure(program: &str, args: &[&str]) -> String {
    let ended = run(program, args);
    assert_eq!(ended.code, Some(1), "{args:?}: {}", ended.stderr);
    assert!(ended.stdout.is_empty());
    let (stamp, text) = ended.stderr.split_at("2026/11/22 13:31:11 ".len());
    assert!(
        stamp.bytes().zip(*b"0000/00/00 00:00:00 ").all(|(byte, form)| {
            if form == b'0' { byte.is_ascii_digit() } else { byte == form }
        })
    );
    text.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn nsq_tail_checks_in_the_documented_order() {
    let lookupd = "-lookupd-http-address=127.0.0.1:1";
    for (args, text) in [
        (&[][..], "--nsqd-tcp-address or --lookupd-http-address required"),
        (&["-topic=a b"], "--nsqd-tcp-address or --lookupd-http-address required"),
        (&[NSQD, lookupd], "use --nsqd-tcp-address or --lookupd-http-address not both"),
        (&[NSQD], "--topic required"),
        (&[NSQD, "-topic=a b", "-channel=c d"], "invalid topic name"),
        (&[NSQD, "-topic=t", "-channel=c d"], "invalid channel name"),
        (&[NSQD, "-topic=t", "-max-in-flight=-1"], "invalid max_in_flight ! -1 < 0"),
        (
            &[NSQD, "-topic=t", "-consumer-opt=heartbeat_interval,90s"],
            "HeartbeatInterval 1m30s must be less than ReadTimeout 1m0s",
        ),
    ] {
        assert_eq!(failure(NSQ_TAIL, args), text, "{args:?}");
    }
}

#[test]
fn an_nsqlookupd_without_a_port_is_a_failure() {
    let ended = run(NSQ_TAIL, &["-lookupd-http-address=localhost", "-topic=t"]);
    assert_eq!(ended.code, Some(1));
    let text = "invalid nsqlookupd address \"localhost\": missing port\n";
    assert!(ended.stderr.ends_with(text), "{}", ended.stderr);
}

#[test]
fn to_nsq_checks_in_the_documented_order() {
    for (args, text) in [
        (&[][..], "--topic required"),
        (&["-delimiter=ab"], "--topic required"),
        (&["-topic=t", "-delimiter=ab"], "--delimiter must be a single byte"),
        (&["-topic=t", "-delimiter=", NSQD], "--delimiter must be a single byte"),
        (&["-topic=t", "-delimiter=é", NSQD], "--delimiter must be a single byte"),
        (&["-topic=t"], "--nsqd-tcp-address required"),
    ] {
        assert_eq!(failure(TO_NSQ, args), text, "{args:?}");
    }
}

#[test]
fn mistakes_in_the_command_line_end_with_two_and_help_with_zero() {
    for (program, option) in [(NSQ_TAIL, "consumer-opt"), (TO_NSQ, "producer-opt")] {
        let help = run(program, &["-help"]);
        assert_eq!(help.code, Some(0));
        for (args, text) in [
            (["-nope".to_owned()], "flag provided but not defined: -nope".to_owned()),
            (
                [format!("-{option}=nope")],
                format!("invalid value \"nope\" for flag -{option}: invalid option nope"),
            ),
            (
                [format!("-{option}=sample-rate,100")],
                format!(
                    "invalid value \"sample-rate,100\" for flag -{option}: \
                     invalid sample_rate ! 100 > 99"
                ),
            ),
        ] {
            let ended = run(program, &[&args[0]]);
            assert_eq!(ended.code, Some(2));
            assert_eq!(ended.stderr, format!("{text}\n{}", help.stderr));
        }
    }
}

#[test]
fn nsq_tail_tells_its_version_before_any_check_and_to_nsq_has_no_such_option() {
    let ended = run(NSQ_TAIL, &["-version", NSQD, "-lookupd-http-address=x"]);
    assert_eq!(ended.code, Some(0));
    let version = nsq_daemon::version::line("nsq_tail") + "\n";
    assert_eq!(ended.stdout, version.as_bytes());
    assert_eq!(run(TO_NSQ, &["-version"]).code, Some(2));
}

#[test]
fn an_nsqd_that_is_not_there_ends_nsq_tail() {
    let ended = run(NSQ_TAIL, &[NSQD, "-topic=t"]);
    assert_eq!(ended.code, Some(1));
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains("connect to 127.0.0.1:1: "), "{last}");
}
