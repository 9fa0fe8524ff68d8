//! The command line, the usage text and the bounds.
#![expect(clippy::unwrap_used, reason = "a test helper that fails fails the test")]

use std::time::Duration;

use super::{
    sample::{Level, Policy, Sample, resolve, table},
    *,
};

fn given(args: &[&str]) -> Sample {
    resolve(&table().parse(args.iter().copied()).unwrap())
}

fn message(args: &[&str]) -> String {
    match table().parse(args) {
        Err(UsageError::Wrong { message, usage }) => {
            assert_eq!(usage, table().usage());
            message
        }
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn without_arguments_every_option_has_its_default() {
    let parsed = table().parse([] as [&str; 0]).unwrap();
    assert!(resolve(&parsed).deflate);
    assert_eq!(resolve(&parsed).max_rdy_count, 2500);
    assert_eq!(resolve(&parsed).max_msg_size, 1_048_576);
    assert_eq!(resolve(&parsed).sample, 1.0);
    assert_eq!(resolve(&parsed).msg_timeout, Duration::from_secs(60));
    assert_eq!(resolve(&parsed).log_prefix, "[nsqd] ");
    assert_eq!(resolve(&parsed).tls_required, Policy("false"));
    assert!(resolve(&parsed).consumer_opt.is_empty());
    assert_eq!(parsed.source("deflate"), Source::Default);
    assert!(!parsed.is_set("deflate"));
}

#[test]
fn one_dash_or_two_and_an_equals_sign_or_the_next_word_are_the_same() {
    for args in [
        &["-max-rdy-count", "7"][..],
        &["--max-rdy-count", "7"],
        &["-max-rdy-count=7"],
        &["--max-rdy-count=7"],
    ] {
        let parsed = table().parse(args).unwrap();
        assert_eq!(resolve(&parsed).max_rdy_count, 7, "{args:?}");
        assert_eq!(parsed.source("max-rdy-count"), Source::Flag);
    }
    let parsed = table().parse(["-log-prefix=", "-config", "-x=y", "-tcp-address=a=b"]).unwrap();
    assert_eq!(resolve(&parsed).log_prefix, "");
    assert_eq!(*parsed.value("config"), Value::Text("-x=y".to_owned()));
    assert_eq!(resolve(&parsed).tcp_address, "a=b");
}

#[test]
fn a_switch_takes_a_value_only_after_an_equals_sign() {
    for (arg, value) in
        [("-deflate", true), ("--deflate=F", false), ("-deflate=0", false), ("-deflate=True", true)]
    {
        assert_eq!(given(&[arg]).deflate, value, "{arg}");
    }
    let parsed = table().parse(["-deflate", "false", "-verbose"]).unwrap();
    assert!(resolve(&parsed).deflate);
    assert!(!resolve(&parsed).verbose);
    assert_eq!(parsed.rest(), ["false", "-verbose"]);

    assert_eq!(given(&["-tls-required"]).tls_required, Policy("true"));
    let parsed = table().parse(["--tls-required=tcp-https"]).unwrap();
    assert_eq!(resolve(&parsed).tls_required, Policy("tcp-https"));
}

#[test]
fn parsing_stops_at_the_first_plain_word_or_after_two_dashes() {
    for (args, rest) in [
        (&["-verbose", "word", "-deflate=false"][..], &["word", "-deflate=false"][..]),
        (&["-verbose", "--", "-deflate=false"], &["-deflate=false"]),
        (&["-verbose", "-", "-deflate=false"], &["-", "-deflate=false"]),
        (&["-verbose", "", "x"], &["", "x"]),
    ] {
        let parsed = table().parse(args).unwrap();
        assert!(resolve(&parsed).verbose && resolve(&parsed).deflate);
        assert_eq!(parsed.rest(), rest);
    }
}

#[test]
fn the_last_of_repeated_values_wins_and_lists_grow() {
    let parsed = table()
        .parse([
            "-msg-timeout=1s",
            "-lookupd-tcp-address=b",
            "-msg-timeout=1m30s",
            "-lookupd-tcp-address",
            "a,c",
        ])
        .unwrap();
    assert_eq!(resolve(&parsed).msg_timeout, Duration::from_secs(90));
    assert_eq!(resolve(&parsed).lookupd_tcp_address, ["b", "a,c"]);
}

#[test]
fn mistakes_have_the_texts_that_users_of_nsq_know() {
    for (args, text) in [
        (&["-nope"][..], "flag provided but not defined: -nope"),
        (&["--nope=1"], "flag provided but not defined: -nope"),
        (&["---"], "bad flag syntax: ---"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["--=x"], "bad flag syntax: --=x"),
        (&["-max-rdy-count"], "flag needs an argument: -max-rdy-count"),
        (&["-max-rdy-count", "x"], "invalid value \"x\" for flag -max-rdy-count: parse error"),
        (&["-max-rdy-count="], "invalid value \"\" for flag -max-rdy-count: parse error"),
        (
            &["-max-rdy-count=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -max-rdy-count: value out of range",
        ),
        (&["-max-msg-size=-1"], "invalid value \"-1\" for flag -max-msg-size: value out of range"),
        (&["-msg-timeout", "5"], "invalid value \"5\" for flag -msg-timeout: parse error"),
        (&["-msg-timeout=-5s"], "invalid value \"-5s\" for flag -msg-timeout: value out of range"),
        (&["-sample", "a\"b"], "invalid value \"a\\\"b\" for flag -sample: parse error"),
        (&["-deflate=x"], "invalid boolean value \"x\" for -deflate: parse error"),
        (&["-log-level=x"], "invalid value \"x\" for flag -log-level: invalid log level 'x'"),
        (
            &["-consumer-opt", "no"],
            "invalid value \"no\" for flag -consumer-opt: invalid option no",
        ),
        (&["-tls-required=x"], "invalid boolean value \"x\" for -tls-required: unknown policy"),
    ] {
        assert_eq!(message(args), text);
    }
}

#[test]
fn help_is_the_usage_and_no_mistake() {
    for arg in ["-h", "-help", "--help", "--h=1"] {
        let error = table().parse([arg]).unwrap_err();
        assert_eq!(error, UsageError::Help { usage: table().usage() });
        assert_eq!(error.exit_code(), 0);
        assert_eq!(error.text(), table().usage());
    }
    let error = table().parse(["-nope"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.text().starts_with("flag provided but not defined: -nope\nUsage of nsqd:\n"));
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_is_a_mistake() {
    use std::os::unix::ffi::OsStringExt;
    let word = std::ffi::OsString::from_vec(b"-config=\xff".to_vec());
    assert!(matches!(table().parse([word]), Err(UsageError::Wrong { .. })));
}

#[test]
fn the_usage_lists_options_by_name_with_kind_and_default() {
    let expected = "Usage of nsqd:
  -config string
    \tpath of a configuration file in TOML
  -consumer-opt value
    \toption to pass
  -deflate
    \tenable deflate (default true)
  -durability string
    \twhat OK means (default \"log\")
  -idle duration
    \tno default
  -log-level value
    \tverbosity (default INFO)
  -log-prefix string
    \tlog message prefix (default \"[nsqd] \")
  -lookupd-tcp-address value
    \tlookupd TCP address
    \t(repeatable)
  -max-msg-size int
    \tmaximum size (default 1048576)
  -max-rdy-count int
    \tmaximum RDY count (default 2500)
  -msg-timeout duration
    \ttime to finish (default 1m0s)
  -node-id int
    \tunique part
  -percentile value
    \tshare of latencies
  -sample float
    \tshare of messages (default 1)
  -tcp-address string
    \taddress to listen on (default \"0.0.0.0:4150\")
  -tls-required
    \trequire TLS
  -v\tshort
  -verbose
    \thas no effect
  -worker-id
    \thas no effect
";
    assert_eq!(table().usage(), expected);
}

#[test]
fn configuration_keys_are_names_with_underscores_unless_declared_otherwise() {
    let options = table();
    let key = |name| options.find(name).and_then(OptionDef::key);
    assert_eq!(key("max-rdy-count").as_deref(), Some("max_rdy_count"));
    assert_eq!(key("node-id").as_deref(), Some("id"));
    assert_eq!(key("config"), None);
}

#[test]
#[should_panic(expected = "an option is declared twice")]
fn two_options_of_one_name_are_refused() {
    let defs = vec![option!(Sample.v, ""), option!(Sample.idle, "").named("v")];
    Table::new("x", defs);
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    for (args, text) in [
        (["-node-id", "1024"], "--node-id must be [0,1024)"),
        (["-max-msg-size", "0"], "--max-msg-size must be from 1 to 9223372036854775807: 0"),
        (["-msg-timeout", "0"], "--msg-timeout must be positive"),
        (["-durability", "disk"], "--durability must be memory, log or fsync, not \"disk\""),
    ] {
        let parsed = table().parse(args).unwrap();
        assert_eq!(table().resolve(&parsed).unwrap_err().to_string(), text);
    }
}

#[test]
fn the_type_of_a_field_bounds_its_number() {
    #[derive(Default)]
    struct Ports {
        tcp: u16,
        clients: usize,
    }
    let table = Table::new("x", vec![option!(Ports.tcp, ""), option!(Ports.clients, "")]);
    for (args, text) in [
        (["-tcp", "65536"], "--tcp must be from 0 to 65535: 65536"),
        (["-clients", "-1"], "--clients must not be negative: -1"),
    ] {
        let parsed = table.parse(args).unwrap();
        let refused = table.resolve(&parsed).map(drop);
        assert_eq!(refused.unwrap_err().to_string(), text);
    }
}

#[test]
fn an_option_without_effect_is_accepted_and_has_no_value() {
    let parsed = table().parse(["-worker-id"]).unwrap();
    assert_eq!(resolve(&parsed), Sample::default());
    assert_eq!(table().value(&Sample::default(), "worker_id"), None);
}

#[test]
fn values_are_shown_by_key() {
    let options = given(&["-node-id=7", "-durability=fsync", "-log-level=debug", "-idle=1s"]);
    let shown = |key| table().value(&options, key);
    assert_eq!(options.log_level, Level("debug"));
    assert_eq!(shown("id"), Some(Value::Int(7)));
    assert_eq!(shown("node_id"), None);
    assert_eq!(shown("durability"), Some(Value::Text("fsync".to_owned())));
    assert_eq!(shown("log_level"), Some(Value::Text("debug".to_owned())));
    assert_eq!(shown("idle"), Some(Value::Duration(Duration::from_secs(1))));
    assert_eq!(shown("verbose"), None);
}

#[test]
fn tables_are_nested_and_joined() {
    #[derive(Default)]
    struct Both {
        sample: Sample,
        data_path: String,
    }
    let own = Table::new("both", vec![option!(Both.data_path, "folder")]);
    let table = own.and(table().nested(|both: &Both| &both.sample, |both| &mut both.sample));
    let parsed = table.parse(["-data-path=x", "-node-id=3", "-deflate=false"]).unwrap();
    let both = table.resolve(&parsed).unwrap();
    assert_eq!(both.data_path, "x");
    assert_eq!(both.sample, Sample { node_id: 3, deflate: false, ..Sample::default() });
    assert!(table.usage().starts_with("Usage of both:\n"));
}
