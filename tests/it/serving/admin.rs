//! Models that are loaded and unloaded while the server runs.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use percept::infer::{Session, SessionOptions};
use percept::serve::{Admin, Loaded, Options, Source, Wanted, WantedKind};
use serde_json::{Value, json};

use super::adapters::{answer, asked, expected, rider};
use super::client::{Reply, Running, language, post_bytes};
use super::process::{connect, parity, start};
use crate::adapters::saved;
use crate::devices;
use crate::sessions::{case, session};

const KEY: &str = "Authorization: Bearer admin-key-1\r\n";

fn read(mut stream: std::net::TcpStream) -> Reply {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    Reply::of(&all)
}

fn send(address: &str, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read(stream)
}

fn remove(address: &str, name: &str, key: &str) -> Reply {
    let request =
        format!("DELETE /admin/models/{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}\r\n");
    send(address, request.as_bytes())
}

/// A failure's status, code and field.
fn told(reply: &Reply) -> (u16, String, String) {
    let error = reply.error();
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    (reply.status, text("code"), text("param"))
}

#[test]
fn models_are_loaded_used_and_unloaded_over_http_with_keys_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, key: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, key).unwrap();
        path.display().to_string()
    };
    let (admin, api) = (file("admin", "admin-key-1\n"), file("api", "some-api-key\n"));
    let (_process, address) = start(&["--admin-keys", &admin, "--api-keys", &api]);
    let api = "Authorization: Bearer some-api-key\r\n";
    let post = |path: &str, key: &str, document: Value| {
        send(&address, &post_bytes(path, key, document.to_string().as_bytes()))
    };
    let load = |document: Value| post("/admin/models", KEY, document);
    let wanted = |name: &str, path: &Path, kind: &str| json!({ "name": name, "path": path, "kind": kind });
    let chat = |model: &str| post("/v1/chat/completions", api, asked(model, "12 34", 8));

    // Each key opens its own doors.
    let dora = saved("dora-bias");
    for key in ["", api, "Authorization: Bearer admin-key-2\r\n"] {
        let refused = post("/admin/models", key, wanted("dora", &dora, "adapter"));
        assert_eq!(told(&refused).0, 401, "{key}");
        assert_eq!(told(&remove(&address, "qwen2", key)).0, 401, "{key}");
    }
    assert_eq!(post("/v1/chat/completions", KEY, asked("qwen2", "a", 1)).status, 401);

    // What is wrong is named.
    let with = |mut document: Value, field: &str, value: Value| {
        document[field] = value;
        document
    };
    let good = wanted("dora", &dora, "adapter");
    for (document, status, code, param) in [
        (wanted("qwen2", &dora, "adapter"), 409, "name_taken", "name"),
        (wanted("dora", Path::new("/nonexistent/dora"), "adapter"), 400, "path_not_found", "path"),
        (with(good.clone(), "base", json!("llama")), 400, "unknown_base", "base"),
        (with(wanted("m", &parity("llama"), "model"), "base", json!("qwen2")), 400, "", "base"),
        (wanted("dora", &dora, "lora"), 400, "", "kind"),
        (wanted("", &dora, "adapter"), 400, "", "name"),
        (json!({ "path": "a", "kind": "model" }), 400, "missing_parameter", "name"),
        (with(good.clone(), "weight", json!(2)), 400, "unknown_parameter", "weight"),
        // What is there is no adapter of this model, or no model; the name is free again.
        (wanted("dora", &parity("qwen2"), "adapter"), 400, "cannot_load", "path"),
        (wanted("dora", &saved("dora"), "model"), 201, "", ""),
    ] {
        let reply = load(document.clone());
        if status == 201 {
            // An adapter's folder is a model: its base with it.
            assert_eq!(reply.status, 201, "{}", reply.text());
            assert_eq!(remove(&address, "dora", KEY).good()["deleted"], true);
            continue;
        }
        assert_eq!(told(&reply), (status, code.into(), param.into()), "{document}: {}", reply.text());
    }

    // An adapter that rides, one that does not, a model, and one that embeds.
    let reply = load(good.clone());
    assert_eq!(reply.status, 201, "{}", reply.text());
    let described = reply.json();
    assert_eq!((&described["id"], &described["parent"]), (&json!("dora"), &json!("qwen2")));
    assert_eq!(answer(&chat("dora").good()), expected("qwen2", Some(&dora), "12 34", 8));
    let biases = saved("biases");
    let reply = load(with(wanted("biases", &biases, "adapter"), "base", json!("qwen2")));
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(answer(&chat("biases").good()), expected("qwen2", Some(&biases), "12 34", 8));
    assert_eq!(load(wanted("second", &parity("llama"), "model")).status, 201);
    assert_eq!(load(wanted("vectors", &parity("qwen3"), "embedding")).status, 201);
    let vectors = post("/v1/embeddings", api, json!({ "model": "vectors", "input": "12 34" })).good();
    assert!(!vectors["data"][0]["embedding"].as_array().unwrap().is_empty());
    // With two of them, the base must be named.
    let unnamed = load(wanted("other", &saved("lora-bias"), "adapter"));
    assert_eq!(told(&unnamed), (400, "unknown_base".into(), "base".into()));
    assert!(unnamed.text().contains("qwen2, second"), "{}", unnamed.text());
    // An adapter stands on a whole model.
    let upon = load(with(wanted("other", &saved("lora-bias"), "adapter"), "base", json!("dora")));
    assert_eq!(told(&upon), (400, "unknown_base".into(), "base".into()));

    // A base with adapters stays.
    let kept = remove(&address, "qwen2", KEY);
    assert_eq!(told(&kept).1, "has_adapters");
    assert!(kept.text().contains("dora, biases"), "{}", kept.text());
    // What runs is answered to its end, after its model was unloaded.
    for model in ["dora", "biases", "second"] {
        let ask = |tokens: usize| {
            let document = json!({
                "model": model, "prompt": "12", "max_tokens": tokens, "ignore_eos": true, "temperature": 0,
                "stream": true,
            });
            post_bytes("/v1/completions", api, document.to_string().as_bytes())
        };
        let mut stream = connect(&address);
        stream.write_all(&ask(150)).unwrap();
        let mut begun = vec![0; 300];
        stream.read_exact(&mut begun).unwrap();
        assert_eq!(
            remove(&address, model, KEY).good(),
            json!({ "id": model, "object": "model", "deleted": true })
        );
        let gone = send(&address, &ask(1));
        assert_eq!(told(&gone), (404, "model_not_found".into(), "model".into()));
        assert!(
            gone.text().contains(&format!("'{model}'")) && gone.text().contains("qwen2"),
            "{}",
            gone.text()
        );
        stream.read_to_end(&mut begun).unwrap();
        let events = Reply::of(&begun).events();
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length", "{model}");
    }
    assert_eq!(told(&remove(&address, "dora", KEY)), (404, "model_not_found".into(), "model".into()));
    // Its name may be given again, and the base goes when nothing stands on it.
    assert_eq!(load(good).status, 201);
    assert_eq!(answer(&chat("dora").good()), expected("qwen2", Some(&dora), "12 34", 8));
    assert_eq!(remove(&address, "dora", KEY).status, 200);
    assert_eq!(remove(&address, "vectors", KEY).status, 200);
    assert_eq!(remove(&address, "qwen2", KEY).status, 200);
    let none = chat("qwen2");
    assert!(none.status == 404 && none.text().contains("there is none"), "{}", none.text());
}

#[test]
fn what_is_unloaded_is_freed_and_loading_stops_nobody() {
    let cpu = devices::device("cpu");
    let own = cpu.clone();
    // A model that is loaded when it may be.
    let (go, gate) = mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let slow = move |wanted: &Wanted| -> Result<Source, percept::serve::Failure> {
        if let WantedKind::Adapter(base) = &wanted.kind {
            return Ok(rider(&wanted.name, base, Path::new(&wanted.path)));
        }
        let (device, gate) = (own.clone(), gate.clone());
        let open = move || {
            gate.lock().unwrap().recv().unwrap();
            let session: Session = session(&case("qwen2"), &device, SessionOptions::default());
            Ok(Loaded::Language(Box::new(session)))
        };
        Ok(Source { name: wanted.name.clone(), parent: None, open: Box::new(open), over: None })
    };
    let admin = Admin { keys: vec!["admin-key-1".into()], open: Arc::new(slow) };
    let server =
        Running::start(vec![language("llama")], Options { admin: Some(admin), ..Options::default() });
    let address = server.address.to_string();
    let before = cpu.memory().buffers;
    let load = |document: Value| {
        let reply = server.post_with("/admin/models", KEY, document.to_string().as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
    };
    let complete = |model: &str, tokens: usize| {
        let document = json!({ "model": model, "prompt": "12", "max_tokens": tokens, "ignore_eos": true });
        server.post("/v1/completions", &document)
    };
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(json!({ "name": "slow", "path": "a", "kind": "model" })));
        let meanwhile = (0..100).map(|_| complete("slow", 1)).find(|reply| {
            std::thread::sleep(Duration::from_millis(50));
            reply.status != 404
        });
        let meanwhile = meanwhile.expect("it begins to load");
        assert!(meanwhile.status == 503 && meanwhile.text().contains("being loaded"), "{}", meanwhile.text());
        // The server stays ready, and the others answer.
        server.get("/ready").good();
        complete("llama", 4).good();
        assert_eq!(told(&remove(&address, "slow", KEY)), (409, "loading".into(), String::new()));
        assert!(!loading.is_finished());
        go.send(()).unwrap();
        loading.join().unwrap();
    });
    complete("slow", 4).good();
    let loaded = cpu.memory().buffers;
    assert!(loaded > before);
    load(json!({ "name": "dora", "path": saved("dora-bias"), "kind": "adapter", "base": "slow" }));
    complete("dora", 4).good();
    let with_adapter = cpu.memory().buffers;
    assert!(with_adapter > loaded);
    let falls_to = |bytes: u64| {
        for _ in 0..200 {
            // Programs have a few constants.
            if cpu.memory().buffers <= bytes + 1024 {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} bytes are held after 10 s, not {bytes}", cpu.memory().buffers);
    };
    remove(&address, "dora", KEY).good();
    falls_to(loaded);
    remove(&address, "slow", KEY).good();
    falls_to(before);
}

#[test]
fn without_keys_there_is_no_door_and_keys_are_kept_apart() {
    let server = Running::of(&["llama"]);
    let document = json!({ "name": "a", "path": "a", "kind": "model" }).to_string();
    let refused = server.post_with("/admin/models", KEY, document.as_bytes());
    assert_eq!(told(&refused).1, "unknown_url");
    assert_eq!(told(&remove(&server.address.to_string(), "llama", KEY)).0, 404);
    let open: percept::serve::OpenWanted = Arc::new(|_| panic!("nothing is opened"));
    let start = |keys: &[&str], admin: &[&str]| {
        let own = |keys: &[&str]| keys.iter().map(|key| (*key).to_string()).collect();
        let admin = Admin { keys: own(admin), open: open.clone() };
        let options = Options { keys: own(keys), admin: Some(admin), ..Options::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = percept::serve::Server::start(vec![language("llama")], "127.0.0.1:0", options);
        runtime.block_on(server).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(
        start(&["key-of-both"], &["key-of-one", "key-of-both"]).contains("an admin key is an API key too")
    );
    assert!(start(&[], &[]).contains("needs a key"));
}
