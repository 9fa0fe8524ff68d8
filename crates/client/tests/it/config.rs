//! Options by name, their bounds, and their effect on IDENTIFY.

use std::time::Duration;

use nsq_client::{Backoff, Config, ConfigError, ConfigOption, Consumer, OptionValue, Producer};

use crate::support::error;

fn set(name: &str, value: impl Into<OptionValue>) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    config.set(name, value).map(|()| config)
}

#[test]
fn defaults_are_those_of_nsq() {
    // C01
    let config = Config::default();
    assert_eq!(config.dial_timeout, Duration::from_secs(1));
    assert_eq!(config.read_timeout, Duration::from_secs(60));
    assert_eq!(config.write_timeout, Duration::from_secs(1));
    assert_eq!(config.lookupd_poll_interval, Duration::from_secs(60));
    assert_eq!(config.max_requeue_delay, Duration::from_secs(900));
    assert_eq!(config.default_requeue_delay, Duration::from_secs(90));
    assert_eq!(config.lookupd_poll_jitter.to_bits(), 0.3_f64.to_bits());
    assert_eq!(config.lookupd_poll_timeout, Duration::from_secs(60));
    assert_eq!(config.backoff_strategy, Backoff::Exponential);
    assert_eq!(config.max_backoff_duration, Duration::from_secs(120));
    assert_eq!(config.backoff_multiplier, Duration::from_secs(1));
    assert_eq!(config.low_rdy_idle_timeout, Duration::from_secs(10));
    assert_eq!(config.low_rdy_timeout, Duration::from_secs(30));
    assert_eq!(config.rdy_redistribute_interval, Duration::from_secs(5));
    assert_eq!(config.max_attempts, 5);
    assert_eq!(config.heartbeat_interval, Some(Duration::from_secs(30)));
    assert_eq!(config.output_buffer_size, 16_384);
    assert_eq!(config.output_buffer_timeout, Some(Duration::from_millis(250)));
    assert_eq!(config.max_in_flight, 1);
    assert_eq!(config.deflate_level, 6);
    assert_eq!((config.sample_rate, config.max_msg_size), (0, 0));
    assert_eq!(config.msg_timeout, Duration::ZERO);
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn every_bound_is_inclusive_and_enforced() {
    // C02
    for (name, below, min, max, above) in [
        ("read_timeout", "99ms", "100ms", "5m", "5m1ns"),
        ("write_timeout", "99ms", "100ms", "5m", "5m1ns"),
        ("lookupd_poll_interval", "9ms", "10ms", "5m", "5m1ns"),
        ("max_requeue_delay", "-1ns", "0", "60m", "60m1ns"),
        ("default_requeue_delay", "-1ns", "0", "60m", "60m1ns"),
        ("max_attempts", "-1", "0", "65535", "65536"),
        ("lookupd_poll_jitter", "-0.01", "0", "1", "1.01"),
        ("max_backoff_duration", "-1ns", "0", "60m", "60m1ns"),
        ("backoff_multiplier", "-1ns", "0", "60m", "60m1ns"),
        ("low_rdy_idle_timeout", "999ms", "1s", "5m", "5m1ns"),
        ("low_rdy_timeout", "999ms", "1s", "5m", "5m1ns"),
        ("rdy_redistribute_interval", "999us", "1ms", "5s", "5001ms"),
        ("sample_rate", "-1", "0", "99", "100"),
        ("deflate_level", "0", "1", "9", "10"),
        ("max_in_flight", "-1", "0", "4294967295", "4294967296"),
        ("max_msg_size", "-1", "0", "2147483647", "2147483648"),
    ] {
        assert!(matches!(set(name, below), Err(ConfigError::TooSmall { .. })), "{name} {below}");
        assert!(set(name, min).is_ok(), "{name} {min}");
        assert!(set(name, max).is_ok(), "{name} {max}");
        assert!(matches!(set(name, above), Err(ConfigError::TooBig { .. })), "{name} {above}");
    }
    assert!(matches!(set("msg_timeout", "-1s"), Err(ConfigError::TooSmall { .. })));
    let text = error(set("sample_rate", "100")).to_string();
    assert_eq!(text, "invalid sample_rate ! 100 > 99");
}

#[test]
fn bounds_hold_for_fields_too_when_something_is_built() {
    // C03
    let config = Config { sample_rate: 100, ..Config::default() };
    let refused = error(Consumer::builder("t", "c").config(config.clone()).build());
    assert_eq!(refused, error(config.validate()));
    assert!(Producer::new("127.0.0.1:4150", config).is_err());
    assert!(Consumer::builder("a b", "c").build().is_err()); // W05
    assert!(Consumer::builder("t", &"c".repeat(65)).build().is_err());
    assert!(Consumer::builder("t", &"c".repeat(64)).build().is_ok());
}

#[test]
fn dashes_in_names_are_underscores() {
    // C04
    assert_eq!(set("max-in-flight", "7").unwrap().max_in_flight, 7);
}

#[test]
fn an_unknown_option_is_named() {
    // C05
    assert_eq!(error(set("nope", "1")).to_string(), "invalid option nope");
}

#[test]
fn durations_are_text_with_units_or_milliseconds() {
    // C06
    for value in [OptionValue::from("1m30s"), 90_000.into(), Duration::from_secs(90).into()] {
        assert_eq!(set("msg_timeout", value).unwrap().msg_timeout, Duration::from_secs(90));
    }
    let expected =
        r#"failed to coerce option heartbeat_interval (5) - time: missing unit in duration "5""#;
    assert_eq!(error(set("heartbeat_interval", "5")).to_string(), expected);
}

#[test]
fn switches_have_many_spellings() {
    // C07
    for off in ["0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(set("snappy", off), Ok(Config::default()), "{off}");
    }
    assert!(!set("deflate", 0).unwrap().deflate);
    assert!(set("deflate", "lol").is_err());
    for on in ["1", "t", "T", "TRUE", "true", "True"] {
        assert_eq!(set("skip_lookupd_authorization", on), Ok(Config::default()), "{on}");
    }
}

#[test]
fn what_this_build_cannot_do_is_refused() {
    for (feature, is_in, names) in [
        ("tls", cfg!(feature = "tls"), &["tls_v1", "tls_insecure_skip_verify"][..]),
        ("compression", cfg!(feature = "compression"), &["deflate", "snappy"]),
    ] {
        for name in names {
            let expected = Err(ConfigError::MissingFeature(feature));
            let done = set(name, true).map(drop);
            assert_eq!(done, if is_in { Ok(()) } else { expected }, "{name}");
        }
    }
}

#[test]
fn strategies_of_backing_off_have_names() {
    // C10
    assert_eq!(
        set("backoff_strategy", "full_jitter").unwrap().backoff_strategy,
        Backoff::FullJitter
    );
    for name in ["exponential", ""] {
        assert_eq!(set("backoff_strategy", name).unwrap().backoff_strategy, Backoff::Exponential);
    }
    let text = error(set("backoff_strategy", "x")).to_string();
    assert_eq!(
        text,
        "failed to coerce option backoff_strategy (x) - not exponential or full_jitter"
    );
}

#[test]
fn the_option_with_the_wrong_name_means_what_it_always_has() {
    assert!(Config::default().lookupd_authorization);
    assert!(set("skip_lookupd_authorization", true).unwrap().lookupd_authorization);
    assert!(!set("skip_lookupd_authorization", "false").unwrap().lookupd_authorization);
}

#[test]
fn jitter_is_a_fraction() {
    for value in [OptionValue::from("0.5"), 0.5.into()] {
        assert_eq!(
            set("lookupd_poll_jitter", value).unwrap().lookupd_poll_jitter.to_bits(),
            0.5_f64.to_bits()
        );
    }
    for value in ["1.1", "NaN", "x", "-0.1"] {
        assert!(set("lookupd_poll_jitter", value).is_err(), "{value}");
    }
    assert!(set("lookupd_poll_jitter", 1).is_ok());
}

#[test]
fn heartbeats_may_come_as_seldom_as_the_read_timeout_but_no_seldomer() {
    // C08
    let mut config = set("heartbeat_interval", "60s").unwrap();
    assert_eq!(config.validate(), Ok(()));
    config.set("heartbeat_interval", "1m30s").unwrap();
    assert_eq!(
        error(config.validate()).to_string(),
        "HeartbeatInterval 1m30s must be less than ReadTimeout 1m0s"
    );
}

#[test]
fn a_refused_value_changes_nothing() {
    let mut config = Config::default();
    assert!(config.set("read_timeout", "1h").is_err());
    assert_eq!(config, Config::default());
}

#[test]
fn a_command_line_splits_at_the_first_comma_and_a_bare_name_is_true() {
    // C11
    let option: ConfigOption = "user_agent,a,b".parse().unwrap();
    let mut config = Config::default();
    config.apply(&option).unwrap();
    assert_eq!(config.user_agent, "a,b");
    config.lookupd_authorization = false;
    let bare: ConfigOption = "skip_lookupd_authorization".parse().unwrap();
    assert_eq!(bare.value, OptionValue::Bool(true));
    config.apply(&bare).unwrap();
    assert!(config.lookupd_authorization);
    let local: ConfigOption = "local_addr,127.0.0.1:0".parse().unwrap();
    config.apply(&local).unwrap();
    assert_eq!(config.local_addr.unwrap().to_string(), "127.0.0.1:0");
    assert!(config.set("local_addr", "nowhere").is_err());
}
