//! IDENTIFY: refusals, answers and effects.

use nsq_protocol::Command;
use serde_json::{Value, json};

use crate::{
    support::{Received, Server},
    test_clocks::TestClocks,
};

/// The answer to an IDENTIFY that negotiates and says `fields` besides.
fn negotiated(server: &Server, fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    let mut client = server.client();
    match client.identify(&format!("{{\"feature_negotiation\":true{comma}{fields}}}")) {
        Received::Response(json) => json,
        other => panic!("{fields}: {other:?}"),
    }
}

#[test]
fn without_negotiation_the_answer_is_ok() {
    let server = Server::start();
    for body in ["{}", "null", "{\"feature_negotiation\":false,\"tls_v1\":true,\"snappy\":true}"] {
        assert_eq!(server.client().identify(body), Received::Response("OK".to_owned()), "{body}");
    }
}

#[test]
fn the_negotiation_has_its_keys_in_their_order() {
    let expected = r#"{"max_rdy_count":2500,"version":"1.3.0","max_msg_timeout":900000,"msg_timeout":60000,"tls_v1":false,"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":false,"sample_rate":0,"auth_required":false,"output_buffer_size":16384,"output_buffer_timeout":250,"topology_region":"","topology_zone":""}"#;
    assert_eq!(negotiated(&Server::start(), ""), expected);
}

#[test]
fn the_negotiation_tells_what_applies() {
    let server = Server::with(|options| {
        options.limits.rdy_count_max = 7;
        options.msg_timeout = std::time::Duration::from_secs(5);
        options.max_deflate_level = 3;
        options.topology_region = "here".to_owned();
        options.topology_zone = "this one".to_owned();
    });
    let cases = [
        // The places are those of nsqd.
        (
            r#""topology_region":"there","topology_zone":"that one""#,
            json!({ "topology_region": "here", "topology_zone": "this one" }),
        ),
        ("", json!({ "max_rdy_count": 7, "msg_timeout": 5000, "deflate_level": 3 })),
        ("\"msg_timeout\":900000", json!({ "msg_timeout": 900_000 })),
        (
            "\"msg_timeout\":0,\"deflate_level\":1",
            json!({ "msg_timeout": 5000, "deflate_level": 3 }),
        ),
        ("\"sample_rate\":99", json!({ "sample_rate": 99 })),
        (
            "\"output_buffer_size\":64",
            json!({ "output_buffer_size": 64, "output_buffer_timeout": 250 }),
        ),
        (
            "\"output_buffer_size\":-1",
            json!({ "output_buffer_size": 1, "output_buffer_timeout": 0 }),
        ),
        ("\"output_buffer_timeout\":-1", json!({ "output_buffer_timeout": 0 })),
        ("\"output_buffer_timeout\":30000", json!({ "output_buffer_timeout": 30_000 })),
        (
            "\"Sample_Rate\":5,\"short_id\":\"x\",\"heartbeat_interval\":null",
            json!({ "sample_rate": 5 }),
        ),
        ("\"tls_v1\":true", json!({ "tls_v1": false })),
    ];
    for (fields, expected) in cases {
        let answer: Value = serde_json::from_str(&negotiated(&server, fields)).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&answer[key], value, "{fields}");
        }
    }
}

#[test]
fn a_later_identify_keeps_what_it_does_not_name() {
    let server = Server::start();
    let mut client = server.client();
    let first = r#"{"msg_timeout":5000,"output_buffer_size":100,"output_buffer_timeout":100,"sample_rate":50}"#;
    assert_eq!(client.identify(first), Received::Response("OK".to_owned()));
    let Received::Response(json) = client.identify("{\"feature_negotiation\":true}") else {
        panic!()
    };
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(answer["msg_timeout"], 5000);
    assert_eq!(
        (&answer["output_buffer_size"], &answer["output_buffer_timeout"]),
        (&100.into(), &100.into())
    );
    assert_eq!(answer["sample_rate"], 0);
}

#[test]
fn the_settings_of_the_latest_identify_apply_to_deliveries() {
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |_| ());
    server.client().publish("t", b"x");
    let mut client = server.client();
    client.identify(r#"{"sample_rate":1,"msg_timeout":900000,"heartbeat_interval":60000}"#);
    client.identify(r#"{"msg_timeout":1800,"heartbeat_interval":1000}"#);
    client.subscribe("t", "c", 1);
    // Nothing is sampled away, heartbeats come, and the message comes again as early.
    assert_eq!(client.message().attempts, 1);
    assert_eq!(client.frame(), Received::Response("_heartbeat_".to_owned()));
    client.send(Command::Nop);
    clocks.pass_ms(1799);
    client.expect_nothing();
    clocks.pass_ms(1);
    assert_eq!(client.message().attempts, 2);
}

#[test]
fn what_is_refused_closes_and_says_why() {
    let server = Server::start();
    let undecodable = "failed to decode JSON body";
    for (body, text) in [
        ("[]", undecodable),
        ("\"x\"", undecodable),
        ("{", undecodable),
        ("{} x", undecodable),
        ("{\"heartbeat_interval\":1000.0}", undecodable),
        ("{\"msg_timeout\":\"1000\"}", undecodable),
        ("{\"client_id\":7}", undecodable),
        ("{\"tls_v1\":1}", undecodable),
        ("{\"heartbeat_interval\":999}", "heartbeat interval (999) is invalid"),
        ("{\"heartbeat_interval\":60001}", "heartbeat interval (60001) is invalid"),
        ("{\"heartbeat_interval\":-2}", "heartbeat interval (-2) is invalid"),
        ("{\"output_buffer_timeout\":24}", "output buffer timeout (24) is invalid"),
        ("{\"output_buffer_timeout\":30001}", "output buffer timeout (30001) is invalid"),
        ("{\"output_buffer_size\":63}", "output buffer size (63) is invalid"),
        ("{\"output_buffer_size\":65537}", "output buffer size (65537) is invalid"),
        ("{\"sample_rate\":100}", "sample rate (100) is invalid"),
        ("{\"sample_rate\":-1}", "sample rate (-1) is invalid"),
        ("{\"msg_timeout\":999}", "msg timeout (999) is invalid"),
        ("{\"msg_timeout\":900001}", "msg timeout (900001) is invalid"),
        ("{\"msg_timeout\":-1}", "msg timeout (-1) is invalid"),
        // Of several mistakes the first in NSQ's order counts.
        (
            "{\"msg_timeout\":1,\"sample_rate\":-5,\"output_buffer_size\":5}",
            "output buffer size (5) is invalid",
        ),
        (
            "{\"sample_rate\":-5,\"heartbeat_interval\":5,\"output_buffer_timeout\":5}",
            "heartbeat interval (5) is invalid",
        ),
    ] {
        let mut client = server.client();
        let expected = format!("E_BAD_BODY IDENTIFY {text}");
        assert_eq!(client.identify(body), Received::Error(expected), "{body}");
        client.expect_closed();
    }
}

#[test]
fn the_size_of_the_body_is_checked_before_it_is_read() {
    let server = Server::start();
    for (size, text) in [
        (0, "invalid body size 0"),
        (-3, "invalid body size -3"),
        (65_537, "body too big 65537 > 65536"),
    ] {
        let mut client = server.client();
        client.send_bytes(&[b"IDENTIFY\n", &i32::to_be_bytes(size)[..]].concat());
        assert_eq!(client.error(), format!("E_BAD_BODY IDENTIFY {text}"));
        client.expect_closed();
    }
}

#[test]
fn an_identify_over_the_limit_is_counted_and_one_at_the_limit_is_served() {
    let server = Server::with(|options| options.limits.identify_bytes_max = 10_000);
    let filled = |bytes: usize| {
        let (start, end) = ("{\"client_id\":\"me\",\"x\":[", "0]}");
        let values = "{},".repeat(bytes).into_bytes();
        let room = bytes - start.len() - end.len();
        let values = String::from_utf8(values[..room / 3 * 3].to_vec()).unwrap();
        format!("{start}{values}{}{end}", " ".repeat(room % 3))
    };
    let mut client = server.client();
    assert_eq!(client.identify(&filled(10_000)), Received::Response("OK".to_owned()));
    assert_eq!(server.reached("max-identify-size"), 0);
    for command in ["IDENTIFY", "AUTH"] {
        let mut client = server.client();
        client.send_bytes(&[command.as_bytes(), b"\n", &10_001_i32.to_be_bytes()].concat());
        let expected = format!("E_BAD_BODY {command} body too big 10001 > 10000");
        assert_eq!(client.error(), expected);
        client.expect_closed();
    }
    assert_eq!(server.reached("max-identify-size"), 2);
}

#[test]
fn a_limit_for_all_bodies_also_holds_for_identify() {
    let server = Server::with(|options| options.limits.body_bytes_max = 100);
    let mut client = server.client();
    client.send_bytes(&[b"IDENTIFY\n", &101_i32.to_be_bytes()[..]].concat());
    assert_eq!(client.error(), "E_BAD_BODY IDENTIFY body too big 101 > 100");
}

#[test]
fn a_client_without_heartbeats_may_not_subscribe() {
    let server = Server::start();
    for later in [None, Some("{}")] {
        let mut client = server.client();
        client.identify("{\"heartbeat_interval\":-1}");
        if let Some(later) = later {
            client.identify(later);
        }
        client.publish("t", b"x");
        client.send(Command::Sub { topic: "t", channel: "c" });
        assert_eq!(client.error(), "E_INVALID cannot SUB with heartbeats disabled");
        client.expect_closed();
    }
    let mut client = server.client();
    client.identify("{\"heartbeat_interval\":-1}");
    client.identify("{\"heartbeat_interval\":1000}");
    client.subscribe("t", "c", 1);
    assert_eq!(client.message().body, b"x");
}

#[test]
fn statistics_show_what_a_client_says_about_itself() {
    let server = Server::start();
    let mut told = server.client();
    told.identify(r#"{"client_id":"me","hostname":"here","user_agent":"it/1","sample_rate":7}"#);
    told.subscribe("t", "told", 3);
    let mut silent = server.consumer("t", "silent", 0);
    told.settle();
    silent.settle();
    let client = &server.channel_stats("told")["clients"][0];
    for (key, value) in [("client_id", "me"), ("hostname", "here"), ("user_agent", "it/1")] {
        assert_eq!(client[key], value);
    }
    assert_eq!((&client["sample_rate"], &client["ready_count"]), (&7.into(), &3.into()));
    assert_eq!(client["remote_address"], told.stream.local_addr().unwrap().to_string());
    let client = &server.channel_stats("silent")["clients"][0];
    for (key, value) in [("client_id", "127.0.0.1"), ("hostname", "127.0.0.1"), ("user_agent", "")]
    {
        assert_eq!(client[key], value);
    }
    assert_eq!(client["state"], 3);
}

#[test]
fn what_a_client_says_about_itself_is_kept_up_to_256_bytes_a_string() {
    let server = Server::start();
    let mut client = server.client();
    // Two bytes a character: the last one that fits ends at 255.
    let long = format!("x{}", "é".repeat(5_000));
    let keys = ["client_id", "hostname", "user_agent", "topology_region", "topology_zone"];
    let fields = keys.map(|key| format!("\"{key}\":\"{long}\"")).join(",");
    assert_eq!(client.identify(&format!("{{{fields}}}")), Received::Response("OK".to_owned()));
    client.subscribe("t", "c", 0);
    client.settle();
    let shown = &server.channel_stats("c")["clients"][0];
    for key in keys {
        assert_eq!(shown[key], long[..255], "{key}");
    }
}

#[test]
fn a_sampled_client_gets_its_share_and_the_rest_is_gone() {
    let server = Server::start();
    let count = 4000;
    let bodies: Vec<_> = (0..count).map(|i: u32| i.to_be_bytes()).collect();
    server.client().publish_all("t", &bodies);
    let mut client = server.client();
    client.identify("{\"sample_rate\":24}");
    client.subscribe("t", "c", 2500);
    // Twelve standard deviations around the quarter.
    let expected = 1000;
    client.finish_next(expected - 330);
    let mut more = 0;
    client.send_bytes(b"PUB end\n\0\0\0\x01x");
    while let Received::Message(message) = client.receive() {
        client.fin(message.id);
        more += 1;
    }
    assert!(more < 660, "{more}");
    client.settle();
    let stats = server.stats();
    let topics = stats["topics"].as_array().unwrap();
    let topic = topics.iter().find(|topic| topic["topic_name"] == "t").unwrap();
    let channel = &topic["channels"][0];
    assert_eq!((&channel["depth"], &channel["in_flight_count"]), (&0.into(), &0.into()));
    assert_eq!(channel["message_count"], count);
}
