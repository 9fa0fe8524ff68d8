//! The answers to single requests.

use crate::harness::TestServer;

const MARKER: &str = "X-Nsq-Content-Type";

#[tokio::test]
async fn a_text_answer_has_its_type_and_an_unmarked_route_no_marker() {
    let server = TestServer::start().await;
    let answer = server.ask("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("Content-Length"), Some("2"));
    assert_eq!(answer.header(MARKER), None);
    assert_eq!(answer.body, "OK");
}

#[tokio::test]
async fn json_answers_are_marked_and_empty_ones_have_no_type() {
    let server = TestServer::start().await;
    let json = server.ask("GET /info HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(json.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(json.header(MARKER), Some("nsq; version=1.0"));

    let empty =
        server.ask("POST /topic/create?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    let empty = empty.await;
    assert_eq!(empty.status_line, "HTTP/1.1 200 OK");
    assert_eq!(empty.header("Content-Length"), Some("0"));
    assert_eq!(empty.header("Content-Type"), None);
    assert_eq!(empty.header(MARKER), Some("nsq; version=1.0"));
}

#[tokio::test]
async fn an_unknown_path_is_404_and_another_method_405_with_the_allowed_ones() {
    let server = TestServer::start().await;
    let answer = server.ask("GET /nope HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 404 Not Found");
    assert_eq!(answer.body, r#"{"message":"NOT_FOUND"}"#);
    assert_eq!(answer.header(MARKER), Some("nsq; version=1.0"));

    let answer = server.ask("DELETE /config/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(answer.body, r#"{"message":"METHOD_NOT_ALLOWED"}"#);
    assert_eq!(answer.header("Allow"), Some("GET, OPTIONS, PUT"));
    assert_eq!(answer.header(MARKER), Some("nsq; version=1.0"));
}

#[tokio::test]
async fn head_is_not_a_method_of_any_route() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send("HEAD /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let text = client.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{text}");
    assert!(text.contains("\r\nAllow: GET, OPTIONS\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn options_tells_the_methods_of_a_path() {
    let server = TestServer::start().await;
    let answer = server.ask("OPTIONS /pub HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
    assert_eq!(answer.header("Allow"), Some("OPTIONS, POST"));
    assert_eq!(answer.header("Content-Length"), Some("0"));
    assert_eq!(answer.header(MARKER), None);
    let answer = server.ask("OPTIONS /nope HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 404 Not Found");
    let answer = server.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_path_that_is_nearly_right_is_redirected_with_its_query() {
    let server = TestServer::start().await;
    let answer = server.ask("GET //Ping/?a=1&b=%41 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 301 Moved Permanently");
    assert_eq!(answer.header("Location"), Some("/ping?a=1&b=%41"));
    assert_eq!(answer.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header(MARKER), None);
    assert_eq!(answer.body, "<a href=\"/ping?a=1&amp;b=%41\">Moved Permanently</a>.\n\n");

    let answer =
        server.ask("POST /PUB?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 307 Temporary Redirect");
    assert_eq!(answer.header("Location"), Some("/pub?topic=a"));
    assert_eq!(answer.header("Content-Length"), Some("0"));
}

#[tokio::test]
async fn escapes_in_paths_are_replaced_and_malformed_ones_refused() {
    let server = TestServer::start().await;
    let answer = server.ask("GET /%63onfig/a%20b%23 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.body, "a b#");
    let mut client = server.connect().await;
    client.send("GET /config/%zz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(answer.body, "400 Bad Request");
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_malformed_query_is_an_invalid_request() {
    let server = TestServer::start().await;
    for query in ["topic=a;b", "topic=%zz"] {
        let answer = server
            .ask(&format!(
                "POST /topic/create?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status_line, "HTTP/1.1 400 Bad Request");
        assert_eq!(answer.body, r#"{"message":"INVALID_REQUEST"}"#);
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_refused_unless_it_is_http_1_0() {
    let server = TestServer::start().await;
    let answer = server.ask("GET /ping HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer.status_line, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer.body, "400 Bad Request: missing required Host header");
    assert_eq!(answer.header("Connection"), Some("close"));

    let mut client = server.connect().await;
    client.send("GET /ping HTTP/1.0\r\n\r\n").await;
    let text = client.read_to_end().await;
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("\r\n\r\nOK"), "{text}");
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    for body in ["one", "two"] {
        client
            .send(format!(
                "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{body}"
            ))
            .await;
        assert_eq!(client.answer().await.body, format!("t:{body}"));
    }
    client.send("GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.header("Connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
    // Two requests in one write, whose bodies are not read.
    let unread = "POST /topic/create HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabcdef";
    client.send(format!("{unread}{unread}")).await;
    for _ in 0..2 {
        assert_eq!(client.answer().await.status_line, "HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn a_client_may_close_its_half_and_wait_for_the_answer() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.close_write().await;
    assert!(client.read_to_end().await.ends_with("\r\n\r\nOK"));
}

#[tokio::test]
async fn what_is_not_http_is_refused_in_plain_text() {
    let server = TestServer::start().await;
    for bytes in ["GARBAGE\r\n\r\n", "GET /ping HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n"] {
        let mut client = server.connect().await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!(answer.status_line, "HTTP/1.1 400 Bad Request", "{bytes}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.body, "400 Bad Request");
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(client.read_to_end().await, "");
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status_line, "HTTP/1.1 500 Internal Server Error");
    assert_eq!(answer.body, r#"{"message":"INTERNAL_ERROR"}"#);
    assert_eq!(answer.header(MARKER), Some("nsq; version=1.0"));
    client.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "OK");
    let texts = server.log.texts();
    assert!(texts.contains(&"ERROR: panic in HTTP handler - on purpose".to_owned()), "{texts:?}");
    assert_eq!(server.access_log(), ["INFO: 500 GET /panic", "INFO: 200 GET /ping"]);
}

#[tokio::test]
async fn the_access_log_has_every_answer_but_those_of_quiet_routes() {
    let server = TestServer::start().await;
    for request in [
        "GET /ping?a=%41 HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /pub?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /pub HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /PING HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS /ping HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /topic/create?a;b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ] {
        server.ask(request).await;
    }
    let expected = [
        "INFO: 200 GET /ping?a=%41",
        "INFO: 404 GET /nope",
        "INFO: 405 GET /pub",
        "INFO: 400 POST /topic/create?a;b",
    ];
    assert_eq!(server.access_log(), expected);
    let texts = server.log.texts();
    assert_eq!(texts[0], format!("INFO: HTTP: listening on {}", server.address));
    let line = &texts[1];
    assert!(line.ends_with('s') && line.contains(") "), "the line ends with a duration: {line}");
}

#[tokio::test]
async fn a_long_uri_is_cut_in_the_access_log_and_hides_nothing_behind_it() {
    let server = TestServer::start().await;
    let uri = format!("/nope?{}", "a".repeat(60_000));
    server.ask(&format!("GET {uri} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let texts = server.log.texts();
    let line = texts.iter().find(|text| text.contains("/nope")).unwrap();
    assert!(line.starts_with("INFO: 404 GET /nope?aaa"), "{line}");
    assert!(line.contains("aaa… (59238 bytes more) (127.0.0.1:"), "{line}");
    assert!(line.len() < 1000 && line.ends_with('s'), "{line}");
}

#[tokio::test]
async fn a_flood_of_requests_that_fail_does_not_hide_those_that_do_not() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    for _ in 0..1000 {
        client.send("GET /nope HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.answer().await;
    }
    server.ask("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let shown = server.access_log();
    assert_eq!(shown.last().unwrap(), "INFO: 200 GET /ping");
    let failed = shown.iter().filter(|line| *line == "INFO: 404 GET /nope").count();
    assert!((100..1000).contains(&failed), "{failed}");
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    let is_report = |text: &String| text.contains("HTTP: Not Found: ");
    let reports = server.log.texts().into_iter().filter(is_report);
    let suppressed = reports.map(|text| text.split(' ').nth(4).unwrap().parse::<usize>().unwrap());
    assert_eq!(failed + suppressed.sum::<usize>(), 1000);
}

#[tokio::test]
async fn a_number_sign_is_a_part_of_the_target_and_not_the_end_of_it() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    // Three requests in one piece: the bodies stay as they are.
    client
        .send(concat!(
            "POST /pub?topic=a#ephemeral HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nGET /#b ",
            "POST /pub?topic=b#e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "5;x\r\nPUT #\r\n0\r\n\r\n",
            "PUT /config/c#d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        ))
        .await;
    assert_eq!(client.answer().await.body, "a#ephemeral:GET /#b ");
    assert_eq!(client.answer().await.body, "b#e:PUT #");
    assert_eq!(client.answer().await.body, "c#d");
}

#[tokio::test]
async fn characters_that_a_uri_may_not_contain_are_taken_as_they_are() {
    let server = TestServer::start().await;
    for text in ["\"", "<", ">", "{", "}", "|", "^", "`", "\\", "[", "]", "'", "é"] {
        let answer = server
            .ask(&format!(
                "POST /pub?topic={text} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.body, format!("{text}:"));
        let answer = server.ask(&format!("GET /config/{text} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(answer.body, text);
    }
    let mut client = server.connect().await;
    client.send(b"GET /info?a=\xff\xc3 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "{}");
}
