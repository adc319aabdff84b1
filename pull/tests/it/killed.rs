//! A pull that is killed at any point continues, and ends as if nothing had happened.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use percept_pull::{AllowPrivate, Settings, pull};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::hostile::{Server, body, good, head, serve};
use super::{files, list, statuses};

const LARGE: usize = 12 << 20;

/// Takes its time: small files that fail now and then, and two large ones that come in pieces.
fn slow_server() -> Server {
    Server::start(|request, stream| {
        let bytes = body(&request.path, request.size());
        let kind = request.path.split('/').nth(1).unwrap_or_default();
        thread::sleep(Duration::from_millis(30));
        match kind {
            "large" => {
                let offset = request.offset();
                serve(request, stream, &bytes, "big", offset)?;
                for piece in bytes[offset..].chunks(1 << 17) {
                    std::io::Write::write_all(stream, piece)?;
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(true)
            }
            "flaky" if request.nth % 3 != 2 => {
                head(stream, "503 Service Unavailable", &[("Content-Length", "0".into())])?;
                Ok(false)
            }
            "missing" => {
                head(stream, "404 Not Found", &[("Content-Length", "0".into())])?;
                Ok(true)
            }
            _ => good(request, stream, &bytes, "s"),
        }
    })
}

fn sources(folder: &Path, server: &Server) -> Vec<String> {
    let tree = folder.join("tree");
    fs::create_dir_all(&tree).unwrap();
    (0..20).for_each(|i| fs::write(tree.join(format!("{i}.jpg")), body("tree", 1000 + i)).unwrap());
    let paths = (0..120).map(|i| match i {
        _ if i % 20 == 5 => format!("/large/{}", LARGE + i),
        _ if i % 10 == 3 => format!("/flaky/{}", 2000 + i),
        _ if i % 10 == 7 => format!("/missing/{i}"),
        _ => format!("/small/{}", 20_000 + i),
    });
    vec![list(folder, paths.map(|path| server.url(&path))), tree.to_str().unwrap().to_owned()]
}

fn run(sources: &[String], out: &Path) {
    let settings = Settings {
        threads: 4,
        allow_private: AllowPrivate::All,
        timeout: Duration::from_secs(5),
        backoff: Duration::from_millis(20),
        retries: 40,
        ..Settings::default()
    };
    pull(sources, out, &settings, &()).unwrap();
}

/// What the test below starts as a process of its own, to kill it.
#[test]
#[ignore = "is started by the test that kills it"]
fn one_pull() {
    let variable = |name| std::env::var(name).unwrap();
    let sources: Vec<String> = variable("PULL_SOURCES").lines().map(str::to_owned).collect();
    run(&sources, variable("PULL_OUT").as_ref());
}

fn start(sources: &[String], out: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["killed::one_pull", "--exact", "--ignored"])
        .env("PULL_SOURCES", sources.join("\n"))
        .env("PULL_OUT", out)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("all_proxy")
        .env_remove("ALL_PROXY")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Statuses without the one thing that tells of disturbances.
fn told(out: &Path) -> Vec<String> {
    let untried = |mut status: percept_pull::Status| {
        status.tries = 0;
        serde_json::to_string(&status).unwrap()
    };
    statuses(out).into_iter().map(untried).collect()
}

#[test]
fn killed_ten_times_it_ends_like_an_undisturbed_run() {
    let server = slow_server();
    let folder = tempfile::tempdir().unwrap();
    let (calm, killed) = (folder.path().join("calm"), folder.path().join("killed"));
    let sources = sources(folder.path(), &server);
    assert!(start(&sources, &calm).wait().unwrap().success());

    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let mut kills = 0;
    // Notes of a part: some of a large file is on the disk for good.
    let kept = || {
        let parts = fs::read_dir(killed.join(".pull/parts")).into_iter().flatten().flatten();
        parts.filter(|file| file.path().extension().is_some_and(|end| end == "json")).count()
    };
    while kills < 10 {
        let mut child = start(&sources, &killed);
        if kills == 2 {
            // In the middle of a large file, however slow the machine is.
            while kept() == 0 && child.try_wait().unwrap().is_none() {
                thread::sleep(Duration::from_millis(5));
            }
        } else {
            thread::sleep(Duration::from_millis(20 + u64::from(rng.next_u32() % 900)));
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "the pull ended before it could be killed {kills} times"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if kills == 5 {
            // A power cut can tear the last line as well.
            let path = killed.join("status.jsonl");
            let mut bytes = fs::read(&path).unwrap_or_default();
            bytes.truncate(bytes.len().saturating_sub(9));
            fs::write(&path, bytes).unwrap();
        }
    }
    assert!(start(&sources, &killed).wait().unwrap().success());

    assert_eq!(told(&calm), told(&killed));
    let strip = |out: &Path| {
        let mut files = files(out);
        files.remove("status.jsonl");
        files
    };
    let (calm, killed) = (strip(&calm), strip(&killed));
    assert_eq!(calm.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    assert!(calm == killed, "a file differs");
    let resumed = server.log.lock().unwrap().iter().filter(|r| r.offset() > 0).count();
    assert!(resumed > 0, "no large file was gone on with");
}
