//! What the server holds is bounded, and what a client leaves behind is let go of.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use percept::serve::Limits;
use serde_json::json;

use super::client::{Reply, Running, ask, post_bytes};

/// A chat that generates for long.
fn long(tokens: usize) -> Vec<u8> {
    let more = json!({ "max_tokens": tokens, "ignore_eos": true, "stream": true });
    post_bytes("/v1/chat/completions", "", ask("qwen2", "12 34", more).to_string().as_bytes())
}

#[test]
fn what_is_over_the_queue_is_refused_and_told_when_to_come_again() {
    let limits = Limits { running: 1, waiting: 1, ..Limits::default() };
    let server = Running::within(&["qwen2"], limits);
    let mut first = server.connect();
    first.write_all(&long(4000)).unwrap();
    server.wait_for("percept_requests_running", 1.0);
    let mut second = server.connect();
    second.write_all(&long(2)).unwrap();
    server.wait_for("percept_requests_waiting", 1.0);
    let reply = server.post("/v1/chat/completions", &ask("qwen2", "a", json!({})));
    assert_eq!((reply.status, &reply.error()["code"]), (429, &json!("queue_full")));
    let seconds: u64 = reply.headers["retry-after"].parse().unwrap();
    assert!((1..=60).contains(&seconds));
    // A request that asks for more than there ever is, is told so.
    let reply = server.post("/v1/chat/completions", &ask("qwen2", "a", json!({ "n": 3 })));
    assert_eq!((reply.status, &reply.error()["param"]), (400, &json!("n")));
    drop(first);
    let mut all = Vec::new();
    second.read_to_end(&mut all).unwrap();
    assert_eq!(Reply::of(&all).events().last().unwrap()["choices"][0]["finish_reason"], "length");
    server.post("/v1/chat/completions", &ask("qwen2", "a", json!({ "max_tokens": 1 }))).good();
}

#[test]
fn a_client_that_leaves_ends_its_answers_and_frees_their_pages() {
    let server = Running::of(&["qwen2"]);
    server.post("/v1/chat/completions", &ask("qwen2", "12 34", json!({ "max_tokens": 1 }))).good();
    let before = server.metric("percept_cache_usage_ratio");
    for stream in [true, false] {
        let generated = server.metric("percept_generation_tokens_total");
        let more = json!({ "max_tokens": 4000, "ignore_eos": true, "stream": stream, "n": 2 });
        let body = ask("qwen2", "12 34", more).to_string();
        let mut client = server.connect();
        client.write_all(&post_bytes("/v1/chat/completions", "", body.as_bytes())).unwrap();
        server.wait_for("percept_requests_running", 2.0);
        drop(client);
        server.wait_for("percept_requests_running", 0.0);
        let generated = server.metric("percept_generation_tokens_total") - generated;
        assert!(generated < 8000.0, "all {generated} tokens were generated");
        assert_eq!(server.metric("percept_cache_usage_ratio"), before);
    }
}

#[test]
fn a_client_that_takes_nothing_is_given_up_and_others_go_on() {
    let limits = Limits { write_time: Duration::from_millis(300), ..Limits::default() };
    let server = Running::within(&["qwen2"], limits);
    let mut slow = server.connect();
    // With logprobs an answer is far larger than what the system holds for a connection.
    let more = json!({
        "max_tokens": 4000, "ignore_eos": true, "stream": true, "logprobs": true, "top_logprobs": 20,
    });
    slow.write_all(&post_bytes("/v1/chat/completions", "", ask("qwen2", "1", more).to_string().as_bytes()))
        .unwrap();
    server.wait_for("percept_requests_running", 1.0);
    server.post("/v1/chat/completions", &ask("qwen2", "a", json!({ "max_tokens": 2 }))).good();
    server.wait_for("percept_requests_running", 0.0);
    let mut all = Vec::new();
    let _ = slow.read_to_end(&mut all);
    assert!(!String::from_utf8_lossy(&all).contains("[DONE]"), "{} bytes were taken", all.len());
}

#[test]
fn requests_that_take_too_long_end_with_an_error() {
    let limits = Limits {
        request_time: Duration::from_millis(400),
        header_time: Duration::from_millis(400),
        body_time: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Running::within(&["qwen2"], limits);
    let more = json!({ "max_tokens": 4000, "ignore_eos": true });
    let reply = server.post("/v1/chat/completions", &ask("qwen2", "1", more));
    assert_eq!((reply.status, &reply.error()["code"]), (504, &json!("timeout")));
    let events = Reply::of(&server.raw(&long(4000))).events();
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout");
    server.wait_for("percept_requests_running", 0.0);
    // Headers and bodies that do not come.
    let began = Instant::now();
    assert!(server.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost:").is_empty());
    let body = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    let reply = Reply::of(&server.raw(body));
    assert_eq!((reply.status, &reply.error()["code"]), (408, &json!("timeout")));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let limits = Limits { body: 4096, tokens: Some(20), choices: 2, media: 1, ..Limits::default() };
    let server = Running::within(&["qwen2", "gemma3"], limits);
    let chat = "/v1/chat/completions";
    let reply = server.post(chat, &ask("qwen2", &"a".repeat(5000), json!({})));
    assert_eq!((reply.status, &reply.error()["code"]), (413, &json!("too_large")));
    // Told without its length, it is refused when it is too long.
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(4096));
    let request = format!(
        "POST {chat} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    assert_eq!(Reply::of(&server.raw(request.as_bytes())).status, 413);
    let error = server.post(chat, &ask("qwen2", "a", json!({ "max_tokens": 21 }))).error();
    assert!(error["message"].as_str().unwrap().contains("20 at most"), "{error}");
    let part = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } });
    let two = json!([{ "role": "user", "content": [part, part] }]);
    let one = super::client::talk("gemma3", two, json!({}));
    let error = server.post(chat, &one).error();
    // The first is no image, which is told first.
    assert_eq!(error["param"], "messages[0].content[0]");
    let whole = server.post(chat, &ask("qwen2", "a", json!({ "ignore_eos": true }))).good();
    assert_eq!(whole["usage"]["completion_tokens"], 20);
}

#[test]
fn a_server_that_stops_lets_answers_end_within_the_grace() {
    let server = |grace: u64| {
        let limits = Limits { grace: Duration::from_millis(grace), ..Limits::default() };
        Running::within(&["qwen2"], limits)
    };
    for (grace, tokens, ends) in [(60_000, 2000, true), (100, 4000, false)] {
        let mut server = server(grace);
        let mut client = server.connect();
        client.write_all(&long(tokens)).unwrap();
        server.wait_for("percept_requests_running", 1.0);
        let idle = server.connect();
        server.ask_to_stop();
        let began = Instant::now();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let events = Reply::of(&all).events();
        let last = events.last().unwrap();
        if ends {
            assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
        } else {
            assert!(last["error"]["message"].as_str().unwrap().contains("stopping"), "{last}");
        }
        drop(idle);
        server.stop();
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
