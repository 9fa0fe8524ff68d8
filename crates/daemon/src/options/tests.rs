use std::time::Duration;

use super::*;

fn options() -> Options {
    Options::new(
        "nsqd",
        vec![
            OptionDef::bool("deflate", true, "enable deflate"),
            OptionDef::bool("verbose", false, "has no effect"),
            OptionDef::bool("v", false, "short"),
            OptionDef::int("max-rdy-count", 2500, "maximum RDY count"),
            OptionDef::int("node-id", 0, "unique part").config_key("id"),
            OptionDef::bytes("max-msg-size", 1_048_576, "maximum size"),
            OptionDef::float("sample", 1.0, "share of messages"),
            OptionDef::duration("msg-timeout", "60s", "time to finish"),
            OptionDef::duration("idle", "0", "no default"),
            OptionDef::string("log-prefix", "[nsqd] ", "log message prefix"),
            OptionDef::string("config", "", "path to config file").not_in_config(),
            OptionDef::address("tcp-address", "0.0.0.0:4150", "address to listen on"),
            OptionDef::list("lookupd-tcp-address", "lookupd TCP address\n(repeatable)"),
            OptionDef::custom("log-level", "info", "verbosity")
                .checked(|text| {
                    if ["debug", "info"].contains(&text) {
                        Ok(())
                    } else {
                        Err(format!("invalid log level '{text}'"))
                    }
                })
                .default_shown_as("INFO"),
            OptionDef::list("consumer-opt", "option to pass").checked(|text| {
                if text.contains(',') { Ok(()) } else { Err(format!("invalid option {text}")) }
            }),
            OptionDef::custom_switch("tls-required", "0", "require TLS")
                .checked(|text| match text {
                    "true" | "false" | "tcp-https" => Ok(()),
                    _ => Err("unknown policy".to_owned()),
                })
                .default_shown_as(""),
        ],
    )
}

fn message(args: &[&str]) -> String {
    match options().parse(args) {
        Err(UsageError::Wrong { message, usage }) => {
            assert_eq!(usage, options().usage());
            message
        }
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn without_arguments_every_option_has_its_default() {
    let parsed = options().parse([] as [&str; 0]).unwrap();
    assert!(parsed.bool("deflate"));
    assert_eq!(parsed.int("max-rdy-count"), 2500);
    assert_eq!(parsed.bytes("max-msg-size"), 1_048_576);
    assert_eq!(parsed.float("sample"), 1.0);
    assert_eq!(parsed.duration("msg-timeout"), Duration::from_secs(60));
    assert_eq!(parsed.string("log-prefix"), "[nsqd] ");
    assert_eq!(parsed.string("tls-required"), "0");
    assert!(parsed.list("consumer-opt").is_empty());
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
        let parsed = options().parse(args).unwrap();
        assert_eq!(parsed.int("max-rdy-count"), 7, "{args:?}");
        assert_eq!(parsed.source("max-rdy-count"), Source::Flag);
    }
    let parsed = options().parse(["-log-prefix=", "-config", "-x=y", "-tcp-address=a=b"]).unwrap();
    assert_eq!(parsed.string("log-prefix"), "");
    assert_eq!(parsed.string("config"), "-x=y");
    assert_eq!(parsed.string("tcp-address"), "a=b");
}

#[test]
fn a_switch_takes_a_value_only_after_an_equals_sign() {
    for (arg, value) in
        [("-deflate", true), ("--deflate=F", false), ("-deflate=0", false), ("-deflate=True", true)]
    {
        assert_eq!(options().parse([arg]).unwrap().bool("deflate"), value, "{arg}");
    }
    let parsed = options().parse(["-deflate", "false", "-verbose"]).unwrap();
    assert!(parsed.bool("deflate"));
    assert!(!parsed.bool("verbose"));
    assert_eq!(parsed.rest(), ["false", "-verbose"]);

    assert_eq!(options().parse(["-tls-required"]).unwrap().string("tls-required"), "true");
    let parsed = options().parse(["--tls-required=tcp-https"]).unwrap();
    assert_eq!(parsed.string("tls-required"), "tcp-https");
}

#[test]
fn parsing_stops_at_the_first_plain_word_or_after_two_dashes() {
    for (args, rest) in [
        (&["-verbose", "word", "-deflate=false"][..], &["word", "-deflate=false"][..]),
        (&["-verbose", "--", "-deflate=false"], &["-deflate=false"]),
        (&["-verbose", "-", "-deflate=false"], &["-", "-deflate=false"]),
        (&["-verbose", "", "x"], &["", "x"]),
    ] {
        let parsed = options().parse(args).unwrap();
        assert!(parsed.bool("verbose") && parsed.bool("deflate"));
        assert_eq!(parsed.rest(), rest);
    }
}

#[test]
fn the_last_of_repeated_values_wins_and_lists_grow() {
    let parsed = options()
        .parse([
            "-msg-timeout=1s",
            "-lookupd-tcp-address=b",
            "-msg-timeout=1m30s",
            "-lookupd-tcp-address",
            "a,c",
        ])
        .unwrap();
    assert_eq!(parsed.duration("msg-timeout"), Duration::from_secs(90));
    assert_eq!(parsed.list("lookupd-tcp-address"), ["b", "a,c"]);
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
        let error = options().parse([arg]).unwrap_err();
        assert_eq!(error, UsageError::Help { usage: options().usage() });
        assert_eq!(error.exit_code(), 0);
        assert_eq!(error.text(), options().usage());
    }
    let error = options().parse(["-nope"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.text().starts_with("flag provided but not defined: -nope\nUsage of nsqd:\n"));
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_is_a_mistake() {
    use std::os::unix::ffi::OsStringExt;
    let word = std::ffi::OsString::from_vec(b"-config=\xff".to_vec());
    assert!(matches!(options().parse([word]), Err(UsageError::Wrong { .. })));
}

#[test]
fn the_usage_lists_options_by_name_with_kind_and_default() {
    let expected = "Usage of nsqd:
  -config string
    \tpath to config file
  -consumer-opt value
    \toption to pass
  -deflate
    \tenable deflate (default true)
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
  -sample float
    \tshare of messages (default 1)
  -tcp-address string
    \taddress to listen on (default \"0.0.0.0:4150\")
  -tls-required
    \trequire TLS
  -v\tshort
  -verbose
    \thas no effect
";
    assert_eq!(options().usage(), expected);
}

#[test]
fn configuration_keys_are_names_with_underscores_unless_declared_otherwise() {
    let options = options();
    let key = |name| options.find(name).and_then(OptionDef::key);
    assert_eq!(key("max-rdy-count").as_deref(), Some("max_rdy_count"));
    assert_eq!(key("node-id").as_deref(), Some("id"));
    assert_eq!(key("config"), None);
}

#[test]
#[should_panic(expected = "an option is declared twice")]
fn two_options_of_one_name_are_refused() {
    Options::new("x", vec![OptionDef::bool("a", false, ""), OptionDef::int("a", 0, "")]);
}

#[test]
#[should_panic(expected = "-a: default \"soon\"")]
fn a_default_of_the_wrong_kind_is_refused() {
    Options::new("x", vec![OptionDef::duration("a", "soon", "")]);
}
