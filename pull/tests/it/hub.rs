//! A hub in the shape of Hugging Face's.

use std::fs;

use percept_pull::{AllowPrivate, Error, Outcome, Settings, pull, pull_model};
use serde_json::json;

use super::hostile::{Server, body, good, head, serve, sha256};
use super::{assert_arrived, files, settings, statuses};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves one repository; large files come from another host.
fn hub() -> (Server, Server) {
    let storage = Server::start(|request, stream| good(request, stream, &body("big", 50_000), "lfs"));
    let cdn = storage.url("/lfs/big?signature=1");
    let hub = Server::start(move |request, stream| {
        let host = format!("http://{}", request.header("host").unwrap());
        let json = |text: serde_json::Value, more: Vec<(&'static str, String)>, stream: &mut _| {
            let text = text.to_string();
            let mut headers = vec![("Content-Length", text.len().to_string())];
            headers.extend(more);
            head(stream, "200 OK", &headers)?;
            std::io::Write::write_all(stream, text.as_bytes())?;
            Ok(true)
        };
        if request.header("authorization") != Some("Bearer secret") {
            head(stream, "401 Unauthorized", &[("Content-Length", "0".into())])?;
            return Ok(true);
        }
        let repository = "/api/datasets/owner/name";
        let resolved = format!("/datasets/owner/name/resolve/{COMMIT}");
        let path = request.path.as_str();
        if path == format!("{repository}/revision/main") {
            json(json!({"sha": COMMIT}), Vec::new(), stream)
        } else if path == format!("{repository}/tree/{COMMIT}?recursive=true") {
            let next = format!("<{host}{repository}/tree/{COMMIT}?recursive=true&cursor=2>; rel=\"next\"");
            let big = body("big", 50_000);
            let page = json!([
                {"type": "directory", "oid": "x", "size": 0, "path": "data"},
                {"type": "file", "oid": "x", "size": 900, "path": "data/a b.jpg"},
                {"type": "file", "oid": "x", "size": 50_000, "path": "data/big.bin",
                 "lfs": {"oid": sha256(&big), "size": 50_000, "pointerSize": 134}},
            ]);
            json(page, vec![("Link", next)], stream)
        } else if path == format!("{repository}/tree/{COMMIT}?recursive=true&cursor=2") {
            let page = json!([
                {"type": "file", "oid": "x", "size": 5, "path": "../../escape"},
                {"type": "file", "oid": "x", "size": 600, "path": "wrong.bin",
                 "lfs": {"oid": sha256(b"other"), "size": 600, "pointerSize": 134}},
                {"type": "file", "oid": "x", "size": 6, "path": "longer.txt"},
                {"type": "file", "oid": "x", "size": 0, "path": "empty.txt"},
            ]);
            json(page, Vec::new(), stream)
        } else if path == format!("{repository}/tree/{COMMIT}/data?recursive=true") {
            json(
                json!([{"type": "file", "oid": "x", "size": 900, "path": "data/a b.jpg"}]),
                Vec::new(),
                stream,
            )
        } else if path == format!("{resolved}/data/a%20b.jpg") {
            good(request, stream, &body("a", 900), "a")
        } else if path == format!("{resolved}/data/big.bin") {
            head(stream, "302 Found", &[("Location", cdn.clone()), ("Content-Length", "0".into())])?;
            Ok(true)
        } else if path == format!("{resolved}/wrong.bin") {
            good(request, stream, &body("wrong", 600), "w")
        } else if path == format!("{resolved}/longer.txt") {
            good(request, stream, b"longer than 6", "l")
        } else if path == format!("{resolved}/empty.txt") {
            good(request, stream, b"", "e")
        } else {
            head(stream, "404 Not Found", &[("Content-Length", "0".into())])?;
            Ok(true)
        }
    });
    (hub, storage)
}

#[test]
fn a_repository_is_pulled_at_one_commit_and_its_hashes_are_checked() {
    let (hub, storage) = hub();
    let settings = Settings {
        allow_private: AllowPrivate::Hosts(vec![hub.host(), storage.host()]),
        endpoint: hub.url(""),
        token: Some("secret".into()),
        retries: 1,
        ..settings(&hub)
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run = |source: &str| pull(&[source.to_owned()], &out, &settings, &());
    run("hf://datasets/owner/name").unwrap();
    let found = statuses(&out);
    assert_eq!(found[0].file.as_deref(), Some("owner--name/data/a b.jpg"));
    assert_arrived(&out, &found[0], &body("a", 900));
    assert_arrived(&out, &found[1], &body("big", 50_000));
    assert_eq!((found[2].outcome, found[2].file.as_ref()), (Outcome::Invalid, None), "{:?}", found[2]);
    assert_eq!(found[3].outcome, Outcome::Corrupt);
    assert!(found[3].reason.as_ref().unwrap().contains("was listed"), "{:?}", found[3]);
    assert_eq!(found[4].outcome, Outcome::Corrupt);
    assert!(found[4].reason.as_ref().unwrap().contains("6 were listed"), "{:?}", found[4]);
    assert_arrived(&out, &found[5], b"");
    assert_eq!(files(&out).len(), 3 + 2);
    assert!(!folder.path().join("escape").exists());
    let sent = storage.log.lock().unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].header("authorization"), None, "the token is the hub's alone");
    drop(sent);

    // One file, named by its path.
    let summary = run("hf://datasets/owner/name@main/data/a b.jpg").unwrap();
    assert_eq!((summary.samples, summary.arrived()), (1, 1));
    assert_eq!(hub.requests(&format!("/datasets/owner/name/resolve/{COMMIT}/data/a%20b.jpg")).len(), 1);

    let missing = [("hf://datasets/owner/none", "404"), ("hf://datasets/owner/name/none", "no files")];
    for (source, reason) in missing {
        let error = run(source).unwrap_err();
        assert!(matches!(&error, Error::Hub { why, .. } if why.contains(reason)), "{error}");
    }
    let settings = Settings { token: None, ..settings.clone() };
    let error = pull(&["hf://datasets/owner/name".into()], &out, &settings, &()).unwrap_err();
    assert!(error.to_string().contains("set HF_TOKEN"), "{error}");
    assert!(fs::exists(out.join("owner--name/data/a b.jpg")).unwrap());
}

/// What `git hash-object` says of the two small files of the model below.
const CONFIG: &str = "9eddb62b076f586b2186445e7872e5a05f0dfe06";
const TOKENIZER: &str = "92bdb0aff34a95a7c00546c3d608c984294164ed";

/// Serves a model: two small files that git keeps, weights that another host keeps, and what no model needs.
fn model_hub(weights: Vec<u8>, broken: bool) -> Server {
    let config = b"{\"model_type\": \"llama\"}\n";
    Server::start(move |request, stream| {
        let json = |text: serde_json::Value, stream: &mut _| {
            let text = text.to_string();
            head(stream, "200 OK", &[("Content-Length", text.len().to_string())])?;
            std::io::Write::write_all(stream, text.as_bytes())?;
            Ok(true)
        };
        let file = |path: &str, oid: &str, size: usize| json!({"type": "file", "path": path, "oid": oid, "size": size});
        match request.path.as_str() {
            "/api/models/owner/name/revision/main" => json(json!({"sha": COMMIT}), stream),
            path if path.starts_with(&format!("/api/models/owner/name/tree/{COMMIT}")) => {
                let mut all = vec![
                    file("README.md", &"0".repeat(40), 100),
                    file("config.json", CONFIG, config.len()),
                    file("tokenizer.json", TOKENIZER, 19),
                    file("onnx/model.onnx", &"0".repeat(40), 1 << 40),
                    file("pytorch_model.bin", &"0".repeat(40), 1 << 40),
                ];
                let mut large = file("model.safetensors", &"1".repeat(40), 134);
                large["lfs"] = json!({"oid": sha256(&weights), "size": weights.len(), "pointerSize": 134});
                all.push(large);
                json(all.into(), stream)
            }
            path if path == format!("/owner/name/resolve/{COMMIT}/config.json") => {
                good(request, stream, config, "c")
            }
            path if path == format!("/owner/name/resolve/{COMMIT}/tokenizer.json") => {
                let text: &[u8] =
                    if broken { b"{\"version\": \"6.6\"}\n" } else { b"{\"version\": \"1.0\"}\n" };
                good(request, stream, text, "t")
            }
            path if path == format!("/owner/name/resolve/{COMMIT}/model.safetensors") => {
                // The first answer breaks off in the middle.
                let end = if request.nth == 0 { weights.len() / 2 } else { weights.len() };
                serve(request, stream, &weights, "w", end)?;
                Ok(end == weights.len())
            }
            _ => {
                head(stream, "404 Not Found", &[("Content-Length", "0".into())])?;
                Ok(true)
            }
        }
    })
}

#[test]
fn a_model_is_pulled_into_the_layout_that_huggingface_hub_reads() {
    let weights = body("weights", 9_000_000);
    let hub = model_hub(weights.clone(), false);
    let settings = Settings { endpoint: hub.url(""), retries: 2, ..settings(&hub) };
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("models--owner--name");
    let snapshot = pull_model("owner/name", "main", &folder, &settings, &()).unwrap();
    assert_eq!(snapshot, folder.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let mut names: Vec<_> = fs::read_dir(&snapshot).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(fs::read(snapshot.join("model.safetensors")).unwrap() == weights);
    let blob = folder.join("blobs").join(sha256(&weights));
    assert_eq!(
        fs::canonicalize(snapshot.join("model.safetensors")).unwrap(),
        fs::canonicalize(blob).unwrap()
    );
    // The second try went on where the first ended.
    let tries = hub.requests(&format!("/owner/name/resolve/{COMMIT}/model.safetensors"));
    assert!(tries.len() == 2 && tries[1].offset() > 0, "{tries:?}");

    // Nothing is fetched twice.
    let before = hub.log.lock().unwrap().len();
    pull_model("owner/name", "main", &folder, &settings, &()).unwrap();
    let after = hub.log.lock().unwrap();
    assert!(after[before..].iter().all(|r| r.path.starts_with("/api/")), "{:?}", &after[before..]);
    drop(after);

    let error = pull_model("owner/none", "main", &folder, &settings, &()).unwrap_err().to_string();
    assert!(error.contains("hf://owner/none@main") && error.contains("404"), "{error}");
}

#[test]
fn a_model_whose_file_is_not_the_listed_one_is_no_snapshot() {
    let hub = model_hub(body("weights", 1000), true);
    let settings = Settings { endpoint: hub.url(""), ..settings(&hub) };
    let cache = tempfile::tempdir().unwrap();
    let error = pull_model("owner/name", "main", cache.path(), &settings, &()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("git hash"), "{error}");
    assert!(!cache.path().join("refs").exists());
    assert!(!cache.path().join("blobs").join(TOKENIZER).exists(), "what is wrong is not kept");
}
