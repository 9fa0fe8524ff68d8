use std::{io::Write, time::Duration};

use super::*;
use crate::sample::{Level, Policy, resolve, table};

fn load_with(args: &[&str], toml: &str) -> Result<(Parsed, Vec<String>), FileError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let mut all = vec!["-config", file.path().to_str().unwrap()];
    all.extend(args);
    let mut parsed = table().parse(all).unwrap();
    table().load_file(&mut parsed).map(|unknown| (parsed, unknown))
}

fn load(toml: &str) -> Parsed {
    load_with(&[], toml).unwrap().0
}

fn refusal(toml: &str) -> String {
    load_with(&[], toml).unwrap_err().to_string()
}

#[test]
fn without_the_option_nothing_is_read() {
    let mut parsed = table().parse([] as [&str; 0]).unwrap();
    let defaults = parsed.clone();
    assert!(table().load_file(&mut parsed).unwrap().is_empty());
    assert_eq!(parsed, defaults);
}

#[test]
fn the_command_line_is_stronger_than_the_file_and_the_file_than_the_default() {
    let toml = "msg_timeout = '2s'\nid = 7\nnsqlookupd_tcp_addresses = ['c']";
    let args = ["-msg-timeout=1m", "-lookupd-tcp-address=a", "-lookupd-tcp-address=b", "-deflate"];
    let (parsed, _) = load_with(&args, toml).unwrap();
    assert_eq!(resolve(&parsed).msg_timeout, Duration::from_secs(60));
    assert_eq!(resolve(&parsed).lookupd_tcp_address, ["a", "b"]);
    assert_eq!((resolve(&parsed).node_id, resolve(&parsed).max_msg_size), (7, 1 << 20));
    let sources = ["deflate", "node-id", "max-msg-size"].map(|name| parsed.source(name));
    assert_eq!(sources, [Source::Flag, Source::File, Source::Default]);
}

#[test]
fn every_kind_is_read_from_its_own_type_and_from_a_text() {
    for (toml, count, bytes, timeout_ms, deflate, sample) in [
        (
            "max_rdy_count = 1_6\nmax_msg_size = 5\nidle = 1500\ndeflate = false\nsample = 0.5",
            16,
            5,
            1500,
            false,
            0.5,
        ),
        (
            "max_rdy_count = '16'\nmax_msg_size = '5'\nidle = '1.5s'\ndeflate = 'F'\nsample = '0.5'",
            16,
            5,
            1500,
            false,
            0.5,
        ),
        (
            "max_rdy_count = -1\nmax_msg_size = 1\nidle = 0\ndeflate = true\nsample = 1",
            -1,
            1,
            0,
            true,
            1.0,
        ),
    ] {
        let parsed = load(toml);
        assert_eq!(resolve(&parsed).max_rdy_count, count);
        assert_eq!(resolve(&parsed).max_msg_size, bytes);
        assert_eq!(resolve(&parsed).idle, Duration::from_millis(timeout_ms));
        assert_eq!(resolve(&parsed).deflate, deflate);
        assert_eq!(resolve(&parsed).sample, sample);
    }
    let parsed = load("log_prefix = 'x '\ntcp_address = ':1'\nlog_level = 'debug'");
    assert_eq!(resolve(&parsed).log_prefix, "x ");
    assert_eq!(resolve(&parsed).tcp_address, ":1");
    assert_eq!(resolve(&parsed).log_level, Level("debug"));
}

#[test]
fn a_list_is_an_array_or_a_text_with_commas() {
    for toml in ["['a:1', 'b:2']", "'a:1,b:2'", "' a:1, b:2,'"] {
        let parsed = load(&format!("nsqlookupd_tcp_addresses = {toml}"));
        assert_eq!(resolve(&parsed).lookupd_tcp_address, ["a:1", "b:2"]);
    }
    let empty = load("nsqlookupd_tcp_addresses = []");
    assert_eq!(resolve(&empty).lookupd_tcp_address, [] as [&str; 0]);
    assert!(empty.is_set("lookupd-tcp-address"));
    for toml in ["[0.5, 1]", "['0.5', '1']", "'0.5,1'"] {
        assert_eq!(resolve(&load(&format!("percentile = {toml}"))).percentile, ["0.5", "1"]);
    }
}

#[test]
fn a_switch_with_a_form_of_its_own_takes_truth_values_and_texts() {
    assert_eq!(resolve(&load("tls_required = true")).tls_required, Policy("true"));
    assert_eq!(resolve(&load("tls_required = 'tcp-https'")).tls_required, Policy("tcp-https"));
    assert_eq!(resolve(&load("tls_required = 1")).tls_required, Policy("true"));
    assert_eq!(resolve(&load("tls_required = 0")).tls_required, Policy("false"));
}

#[test]
fn an_integer_in_a_text_is_decimal_whatever_it_begins_with() {
    assert_eq!(resolve(&load("max_rdy_count = '017'")).max_rdy_count, 17);
    assert_eq!(resolve(&load("max_msg_size = '+8'")).max_msg_size, 8);
}

#[test]
fn keys_that_no_option_has_are_named_and_passed_over() {
    let toml = "nope = 1\nverbose = true\nconfig = 'x'\nnode_id = 3\n[deflate2]\nx = 1";
    let (parsed, unknown) = load_with(&[], toml).unwrap();
    assert_eq!(unknown, ["config", "deflate2", "node_id", "nope", "verbose"]);
    assert!(!resolve(&parsed).verbose);
    assert_eq!(resolve(&parsed).node_id, 0);
}

#[test]
fn values_that_do_not_fit_are_refused_with_their_key() {
    let duration = "a duration such as \"1m30s\" or a number of milliseconds is expected";
    let list = "an array of strings or a string with commas is expected";
    for (toml, text) in [
        (
            "msg_timeout = 'xx'",
            "failed to coerce value xx for msg_timeout - time: invalid duration \"xx\"",
        ),
        (
            "msg_timeout = '5'",
            "failed to coerce value 5 for msg_timeout - time: missing unit in duration \"5\"",
        ),
        (
            "msg_timeout = -5",
            "failed to coerce value -5 for msg_timeout - duration -5ms is negative",
        ),
        ("msg_timeout = 1.5", &format!("failed to coerce value 1.5 for msg_timeout - {duration}")),
        ("id = 1.5", "failed to coerce value 1.5 for id - an integer is expected"),
        ("id = ''", "failed to coerce value  for id - an integer is expected"),
        ("id = '0x10'", "failed to coerce value 0x10 for id - an integer is expected"),
        (
            "max_msg_size = ' 5'",
            "failed to coerce value  5 for max_msg_size - an integer is expected",
        ),
        ("max_msg_size = -1", "failed to coerce value -1 for max_msg_size - value out of range"),
        ("deflate = 1", "failed to coerce value 1 for deflate - true or false is expected"),
        ("deflate = 0", "failed to coerce value 0 for deflate - true or false is expected"),
        ("log_prefix = 5", "failed to coerce value 5 for log_prefix - a string is expected"),
        (
            "tcp_address = true",
            "failed to coerce value true for tcp_address - a string is expected",
        ),
        (
            "nsqlookupd_tcp_addresses = ['a', 1]",
            &format!("failed to coerce value [a, 1] for nsqlookupd_tcp_addresses - {list}"),
        ),
        (
            "[nsqlookupd_tcp_addresses]\nx = 1",
            &format!("failed to coerce value {{…}} for nsqlookupd_tcp_addresses - {list}"),
        ),
        ("log_level = 'warning'", "failed parsing log_level warning - invalid log level 'warning'"),
        ("log_level = 1", "failed parsing log_level 1 - a string is expected"),
        ("tls_required = 2", "failed parsing tls_required 2 - true or false is expected"),
    ] {
        assert_eq!(refusal(toml), text, "{toml}");
    }
}

#[test]
fn a_bad_value_is_refused_even_when_the_command_line_gives_another() {
    assert!(load_with(&["-node-id=1"], "id = 'x'").is_err());
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_refused_with_its_path() {
    let mut parsed = table().parse(["-config", "/nonexistent/nsqd.cfg"]).unwrap();
    let text = table().load_file(&mut parsed).unwrap_err().to_string();
    assert!(text.starts_with("failed to load config file /nonexistent/nsqd.cfg - "), "{text}");
    assert!(text.contains("No such file"), "{text}");

    let text = refusal("id = 1\n\nid = = 2\n");
    assert!(text.starts_with("failed to load config file /"), "{text}");
    assert!(text.contains(" - line 3: ") && !text.contains('\n'), "{text}");
}
