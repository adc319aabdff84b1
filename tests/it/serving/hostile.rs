//! Requests that are made to break a server.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use base64::Engine as _;
use percept::serve::Limits;
use serde_json::{Value, json};

use super::client::{Reply, Running, ask, post_bytes, talk};

const CHAT: &str = "/v1/chat/completions";

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A PNG whose header says that it is this large, with nothing behind it.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 6, 0, 0, 0]);
    let checksum = crc32(&header);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(header);
    png.extend(checksum.to_be_bytes());
    png
}

/// CRC-32 as PNG has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
    !bytes.iter().fold(!0u32, |c, byte| (0..8).fold(c ^ u32::from(*byte), step))
}

/// A chat that shows an image.
fn image(bytes: &[u8]) -> Value {
    shown(
        json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{}", base64(bytes)) } }),
    )
}

fn sound(bytes: &[u8]) -> Value {
    let part = json!({ "type": "input_audio", "input_audio": { "data": base64(bytes), "format": "wav" } });
    talk("qwen2-audio", json!([{ "role": "user", "content": [part] }]), json!({}))
}

fn shown(part: Value) -> Value {
    talk("gemma3", json!([{ "role": "user", "content": [part] }]), json!({}))
}

/// A wave file that says that it has this many bytes of samples.
fn wave_of(bytes: u32) -> Vec<u8> {
    let mut wave = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wave.extend(16_000u32.to_le_bytes());
    wave.extend(32_000u32.to_le_bytes());
    wave.extend(b"\x02\0\x10\0data");
    wave.extend(bytes.to_le_bytes());
    wave.extend([0; 64]);
    wave
}

/// Requests as they are sent.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let mut all: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let good = ask("qwen2", "a", json!({ "max_tokens": 1 })).to_string();
    let mut chat = |name, body: &[u8]| all.push((name, post_bytes(CHAT, "", body)));
    chat("nothing", b"");
    chat("half a document", &good.as_bytes()[..good.len() / 2]);
    chat("two documents", format!("{good}{good}").as_bytes());
    chat("a list", b"[]");
    chat("a text", b"\"hello\"");
    chat("a number", b"1e999");
    chat("null", b"null");
    chat("zero bytes", &[0; 100]);
    chat("bytes that are no text", &[0xff; 100]);
    chat("a broken character in a text", b"{\"model\": \"\xc3\x28\"}");
    chat("half a surrogate", br#"{"model": "\ud800"}"#);
    chat("deep lists", &[b'['; 100_000]);
    chat("deep objects", "{\"a\":".repeat(50_000).as_bytes());
    chat(
        "deep messages",
        format!(r#"{{"model":"qwen2","messages":{}1{}}}"#, "[".repeat(120), "]".repeat(120)).as_bytes(),
    );
    chat("a byte order mark", format!("\u{feff}{good}").as_bytes());
    chat("a comment", format!("/* */{good}").as_bytes());
    chat(
        "a huge number",
        br#"{"model":"qwen2","messages":[{"role":"user","content":"a"}],"max_tokens":1e400}"#,
    );
    chat(
        "a negative length",
        br#"{"model":"qwen2","messages":[{"role":"user","content":"a"}],"max_tokens":-1}"#,
    );
    chat(
        "a long number",
        format!(
            r#"{{"model":"qwen2","messages":[{{"role":"user","content":"a"}}],"seed":{}}}"#,
            "9".repeat(5000)
        )
        .as_bytes(),
    );
    chat(
        "many fields",
        format!("{{{}}}", (0..20_000).map(|i| format!("\"f{i}\":1")).collect::<Vec<_>>().join(","))
            .as_bytes(),
    );
    chat(
        "a long name of a field",
        format!(
            r#"{{"model":"qwen2","messages":[{{"role":"user","content":"a"}}],"{}":1}}"#,
            "n".repeat(100_000)
        )
        .as_bytes(),
    );
    let mut of =
        |name, document: Value| all.push((name, post_bytes(CHAT, "", document.to_string().as_bytes())));
    of("a long name of a model", ask(&"m".repeat(100_000), "a", json!({})));
    of("a path as a model", ask("../../etc/passwd", "a", json!({})));
    of("a model that is a list", json!({ "model": ["qwen2"], "messages": [] }));
    of("messages that are numbers", talk("qwen2", json!([1, 2]), json!({})));
    of("a role that is a list", talk("qwen2", json!([{ "role": [], "content": "a" }]), json!({})));
    of(
        "a content that is an object",
        talk("qwen2", json!([{ "role": "user", "content": { "a": 1 } }]), json!({})),
    );
    of("parts that are texts", talk("qwen2", json!([{ "role": "user", "content": ["a"] }]), json!({})));
    of("parts without a type", talk("qwen2", json!([{ "role": "user", "content": [{}] }]), json!({})));
    of(
        "a text part without text",
        talk("qwen2", json!([{ "role": "user", "content": [{ "type": "text" }] }]), json!({})),
    );
    of(
        "an unknown part",
        talk("qwen2", json!([{ "role": "user", "content": [{ "type": "x", "x": 1 }] }]), json!({})),
    );
    of("more than the context", ask("qwen2", &"12 ".repeat(50_000), json!({})));
    of("a huge number of answers", ask("qwen2", "a", json!({ "n": 1_000_000_000 })));
    of("a bias for every token", ask("qwen2", "a", json!({ "logit_bias": { "-1": 1 } })));
    of("a thousand stop texts", ask("qwen2", "a", json!({ "stop": vec!["a"; 1000] })));
    of("a stop text of a megabyte", ask("qwen2", "a", json!({ "stop": "a".repeat(1 << 20) })));
    of("temperature that is no number", ask("qwen2", "a", json!({ "temperature": [] })));
    of("stream that is a text", ask("qwen2", "a", json!({ "stream": "yes" })));
    of("variables that are a list", ask("qwen2", "a", json!({ "chat_template_kwargs": [] })));
    of("an image that is empty", image(b""));
    of("an image that is text", image(b"hello, world"));
    of("an image of 2^31 pixels a side", image(&png_of(1 << 31, 1 << 31)));
    of("an image of 10^10 pixels", image(&png_of(100_000, 100_000)));
    of("an image of no pixels", image(&png_of(0, 0)));
    of("an image that ends after its header", image(&png_of(64, 64)));
    of(
        "an image that is a script",
        image(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
    );
    of("an image that is a GIF's head", image(b"GIF89a\xff\xff\xff\xff\xf7\0\0"));
    of(
        "an image that is a WebP's head",
        image(b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\xff\xff\xff\xff"),
    );
    of("a sound that is empty", sound(b""));
    of("a sound that is text", sound(b"hello"));
    of(
        "a sound without samples",
        sound(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\0\0\0\0"),
    );
    of(
        "a sound at no rate",
        sound(
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\x02\0\x10\0data\x04\0\0\0\0\0\0\0",
        ),
    );
    for url in [
        "http://127.0.0.1:22/",
        "http://[::1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "https://169.254.169.254/latest/meta-data/",
        "HTTP://localhost/",
        "ftp://host/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "..%2f..%2fetc/passwd",
        "data:",
        "data:,",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png,raw",
        "DATA:image/png;base64,aGk=",
        "gopher://a",
        "",
        "javascript:alert(1)",
        "\\\\host\\share\\a.png",
        "C:\\a.png",
    ] {
        of(url, shown(json!({ "type": "image_url", "image_url": { "url": url } })));
    }
    for url in [
        "http://[::ffff:127.0.0.1]/",
        "http://0/",
        "http://127.1/",
        "http://017700000001/",
        "https://user:word@localhost/a.png",
        "https://localhost\\@example.org/a.png",
        "https://127.0.0.1.nip.io/",
        "http:///etc/passwd",
    ] {
        of(url, shown(json!({ "type": "image_url", "image_url": { "url": url } })));
    }
    for (name, bytes) in [
        ("a video that is empty", b"".as_slice()),
        ("a video that is text", b"hello"),
        ("a video of 10^10 pixels a frame", b"YUV4MPEG2 W100000 H100000 F25:1 C420jpeg\nFRAME\n"),
        ("a video of no pixels", b"YUV4MPEG2 W0 H0 F25:1 C420jpeg\nFRAME\n"),
        ("a video that ends after its header", b"YUV4MPEG2 W64 H64 F25:1 C420jpeg\n"),
        ("a video that is a play list", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("a video that names other files", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("a video of boxes in boxes", b"\0\0\0\x08ftyp\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        let url = format!("data:video/mp4;base64,{}", base64(bytes));
        let part = json!({ "type": "video_url", "video_url": { "url": url } });
        of(name, talk("qwen2-vl-video", json!([{ "role": "user", "content": [part] }]), json!({})));
    }
    for (name, schema) in [
        ("a schema that refers to another host", json!({ "$ref": "http://127.0.0.1/schema" })),
        ("a schema that refers to nothing", json!({ "$ref": "#/$defs/none" })),
        ("a schema of a type that is none", json!({ "type": "nonsense" })),
        ("a schema that nothing meets", json!(false)),
        ("a schema that is a text", json!("object")),
        ("a schema whose pattern is no expression", json!({ "type": "string", "pattern": "(" })),
        ("a schema with settings of the server's", json!({ "x-guidance": {} })),
    ] {
        let form = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
        of(name, ask("qwen2", "a", json!({ "response_format": form, "max_tokens": 1 })));
    }
    for (name, kind, text) in [
        ("an expression that is none", "regex", "(".to_owned()),
        ("an expression that looks behind", "regex", "(?<=a)b".to_owned()),
        ("an expression of deep brackets", "regex", "(".repeat(5000) + "a" + &")".repeat(5000)),
        ("a grammar that is none", "grammar", "start: ".to_owned() + "(" + "\"a\""),
        ("a grammar without a start", "grammar", "a: \"b\"".to_owned()),
    ] {
        let form = json!({ "type": kind, kind: text });
        of(name, ask("qwen2", "a", json!({ "response_format": form, "max_tokens": 1 })));
    }
    of("a URL that is a list", shown(json!({ "type": "image_url", "image_url": [] })));
    of("an image by its path", shown(json!({ "type": "image", "path": "/etc/passwd" })));
    of("an image without anything", shown(json!({ "type": "image" })));
    of("an image with a setting", shown(json!({ "type": "image", "max_pixels": 1 })));
    let raw: [(&str, Vec<u8>); 17] = [
        ("no request", b"hello\r\n\r\n".to_vec()),
        ("zero bytes alone", vec![0; 64]),
        ("TLS where there is none", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec()),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a version that is none", b"GET / HTTP/9.9\r\n\r\n".to_vec()),
        ("a long method", [b"G".repeat(100_000).as_slice(), b" / HTTP/1.1\r\n\r\n"].concat()),
        ("a long path", [b"GET /", "a".repeat(200_000).as_bytes(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat()),
        ("a path that climbs", b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()),
        ("a path that climbs in code", b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()),
        ("a path of broken text", b"GET /v1/models/%ff%fe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()),
        ("many headers", format!("GET /v1/nothing HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5000)).into_bytes()),
        ("a long header", format!("GET /v1/nothing HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(1 << 20)).into_bytes()),
        ("a header without a name", b"GET /v1/nothing HTTP/1.1\r\n: b\r\n\r\n".to_vec()),
        ("two lengths", b"POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_vec()),
        ("a length that is no number", b"POST /v1/completions HTTP/1.1\r\nContent-Length: abc\r\n\r\n".to_vec()),
        ("a length beyond all", b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec()),
        ("a chunk that is too long", b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec()),
    ];
    all.extend(raw);
    all
}

#[test]
fn hostile_requests_are_refused_and_the_next_good_one_is_served() {
    let limits = Limits {
        header_time: Duration::from_secs(2),
        body_time: Duration::from_secs(2),
        body: 8 << 20,
        ..Limits::default()
    };
    let server = Running::within(&["qwen2", "gemma3", "qwen2-audio", "qwen2-vl-video"], limits);
    let good = ask("qwen2", "a", json!({ "max_tokens": 1, "ignore_eos": true }));
    let answer = server.post(CHAT, &good).good()["choices"].clone();
    let all = requests();
    assert!(all.len() >= 100, "{}", all.len());
    for (name, bytes) in all {
        let reply = server.raw(&bytes);
        let shown = String::from_utf8_lossy(&reply[..reply.len().min(2000)]).into_owned();
        if let Some(reply) = Reply::parse(&reply) {
            assert!((400..500).contains(&reply.status), "{name}: {shown}");
            // What is no HTTP is told so by the status alone.
            if !reply.body.is_empty() {
                reply.error();
            }
        } else {
            assert!(reply.is_empty(), "{name}: {shown}");
        }
        assert_eq!(server.post(CHAT, &good).good()["choices"], answer, "after {name}");
    }
    // Forms that would be huge if they were written out are not: answers keep to them as to others.
    let bomb = "((a{1000}){1000}){1000}";
    for form in [
        json!({ "type": "regex", "regex": bomb }),
        json!({ "type": "grammar", "grammar": format!("start: /{bomb}/") }),
        json!({ "type": "json_schema", "json_schema": { "schema": { "type": "string", "pattern": bomb } } }),
    ] {
        let began = Instant::now();
        let reply =
            server.post(CHAT, &ask("qwen2", "a", json!({ "response_format": form, "max_tokens": 50 })));
        assert!(reply.status == 200 || reply.status == 400, "{form}: {}", reply.text());
        assert!(began.elapsed() < Duration::from_secs(20), "{form}");
    }
    // A sound that says that it is longer than it is: what there is of it is heard.
    let reply = server.post(CHAT, &sound(&wave_of(u32::MAX)));
    assert!(reply.status == 200 || reply.status == 400, "{}", reply.text());
    server.wait_for("percept_requests_running", 0.0);
}

#[test]
fn idle_connections_cost_the_others_nothing() {
    let limits = Limits { connections: 300, header_time: Duration::from_secs(300), ..Limits::default() };
    let server = Running::within(&["qwen2"], limits);
    let good = ask("qwen2", "a", json!({ "max_tokens": 1 }));
    let idle: Vec<_> = (0..250).map(|_| server.connect()).collect();
    let began = Instant::now();
    for _ in 0..10 {
        server.post(CHAT, &good).good();
    }
    assert!(began.elapsed() < Duration::from_secs(60));
    // Over the bound, a client is told, also one that is slow with its request.
    let more: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for i in 0..50 {
        let mut stream = server.connect();
        if i % 10 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("the connection is there still");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("the connection is not reset");
        let reply = Reply::parse(&reply).expect("a client is told that it is turned away");
        assert_eq!(reply.status, 503, "{}", reply.text());
        reply.error();
    }
    drop((idle, more));
}
