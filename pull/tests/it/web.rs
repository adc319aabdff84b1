//! Samples of lists, from a server with every vice.

use std::fs;
use std::time::{Duration, Instant};

use percept_pull::{AllowPrivate, Error, Outcome, Settings, pull};

use super::hostile::{Server, body, good, hostile, sha256};
use super::{assert_arrived, files, index, list, settings, statuses};

#[test]
fn every_good_file_arrives_and_every_bad_one_has_its_reason() {
    let server = hostile();
    let redirect = |to: &str| format!("/to/{}", to.replace(':', "%3A"));
    let own = redirect(&server.url("/good/2000"));
    let good: Vec<(&str, Vec<u8>)> = [
        "/good/1",
        "/good/3000",
        "/good/200000",
        "/unsized/5000",
        "/chunked/5000",
        "/drops/300000",
        "/slams/3000",
        "/busy/3000",
        "/fails-twice/3000",
        "/forgets/200000",
        "/not-them/3000",
    ]
    .into_iter()
    .map(|path| (path, body(path, path.rsplit('/').next().unwrap().parse().unwrap())))
    .chain([
        ("/changes/200000", body("new", 200_000)),
        ("/changes-unsaid/200000", body("new", 200_000)),
        ("/hops/10", body("/hops/0", 1000)),
        (&own, body("/good/2000", 2000)),
    ])
    .collect();
    let to_private = redirect("http://10.0.0.1/x");
    let to_metadata = redirect("http://169.254.169.254/latest/meta-data");
    let to_mapped = redirect(&format!("http://[::ffff:127.0.0.1]:{}/good/1", server.port));
    let to_loopback = redirect(&format!("http://localhost:{}/good/1", server.port));
    let to_file = redirect("file:///etc/passwd");
    let bad: [(&str, Outcome, &str); 25] = [
        ("/always-drops/3000", Outcome::Corrupt, "ended before the 3000 bytes"),
        ("/half-chunk/3000", Outcome::Network, "broke off"),
        ("/too-short/3000", Outcome::Corrupt, "ended before the 3100 bytes"),
        ("/too-long/3000", Outcome::Corrupt, "more came than the 1500 bytes"),
        ("/fails/1", Outcome::Http, "status 500"),
        ("/missing/1", Outcome::Http, "status 404: not found"),
        ("/busy-for-long/1", Outcome::Http, "requested again in 86400 s"),
        (&to_private, Outcome::Refused, "10.0.0.1"),
        (&to_metadata, Outcome::Refused, "169.254.169.254"),
        (&to_mapped, Outcome::Refused, "private address"),
        (&to_loopback, Outcome::Refused, "localhost has the private address"),
        (&to_file, Outcome::Refused, "leads to file"),
        ("/round", Outcome::Http, "more than 10 redirects"),
        ("/hops/11", Outcome::Http, "more than 10 redirects"),
        ("/slow/1", Outcome::Network, "stalled"),
        ("/silent/1", Outcome::Network, "timed out"),
        ("/huge/1", Outcome::TooLarge, "--max-bytes"),
        ("/endless/1", Outcome::TooLarge, "--max-bytes"),
        ("/good/1048577", Outcome::TooLarge, "1048576"),
        ("/noai/1", Outcome::Robots, "noai"),
        ("/not-us/1", Outcome::Robots, "noindex"),
        ("/gzip/1", Outcome::Corrupt, "encoding gzip"),
        ("/empty/1", Outcome::Corrupt, "empty"),
        ("/junk/1", Outcome::Network, "not HTTP"),
        ("/talks/1", Outcome::Network, "too many headers"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let paths = good.iter().map(|(path, _)| *path).chain(bad.iter().map(|(path, ..)| *path));
    let extra = ["ftp://a.example/x".to_owned(), "not an address".to_owned()];
    let source = list(folder.path(), paths.map(|path| server.url(path)).chain(extra));
    let settings = Settings { retries: 2, max_bytes: Some(1 << 20), ..settings(&server) };
    let started = Instant::now();
    let summary = pull(&[source], &out, &settings, &()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());

    let statuses = statuses(&out);
    assert_eq!(statuses.len(), good.len() + bad.len() + 2);
    for ((path, bytes), status) in good.iter().zip(&statuses) {
        assert!(
            status.url.ends_with(path.rsplit('/').next().unwrap()),
            "the order is the list's: {status:?}"
        );
        assert_arrived(&out, status, bytes);
        assert_eq!(status.http, Some(200));
    }
    for ((path, outcome, reason), status) in bad.iter().zip(&statuses[good.len()..]) {
        assert_eq!(status.outcome, *outcome, "{path}: {status:?}");
        assert!(status.reason.as_deref().unwrap_or_default().contains(reason), "{path}: {status:?}");
    }
    assert_eq!(statuses[statuses.len() - 2].outcome, Outcome::Refused);
    assert_eq!(statuses[statuses.len() - 1].outcome, Outcome::Invalid);

    // Nothing else was left behind, and what was cut off was gone on with inside the file.
    let here = files(&out);
    assert_eq!(here.len(), good.len() + 2, "{:?}", here.keys());
    assert_eq!(summary.arrived(), good.len() as u64);
    let offsets: Vec<usize> = server.requests("/drops/300000").iter().map(|r| r.offset()).collect();
    assert_eq!(offsets, [0, 100_000, 200_000]);
    let busy = server.requests("/busy/3000");
    assert!(busy[1].at - busy[0].at >= Duration::from_secs(1), "Retry-After was not honoured");
    assert_eq!(server.requests("/missing/1").len(), 1, "what stays missing is not requested again");
    assert_eq!(server.requests("/fails/1").len(), 3);
    assert_eq!(server.requests("/good/3000")[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn loopback_is_refused_unless_allowed() {
    let server = hostile();
    let folder = tempfile::tempdir().unwrap();
    let source =
        list(folder.path(), [server.url("/good/10"), format!("http://localhost:{}/good/11", server.port)]);
    let run = |allow_private| {
        let settings = Settings { allow_private, ..settings(&server) };
        pull(std::slice::from_ref(&source), &folder.path().join("out"), &settings, &()).unwrap()
    };
    let summary = run(AllowPrivate::No);
    assert_eq!(summary.outcomes.get(&Outcome::Refused), Some(&2), "{summary:?}");
    assert!(server.log.lock().unwrap().is_empty(), "nothing may be sent to a private address");
    // What was refused is tried again once it is allowed.
    assert_eq!(run(AllowPrivate::Hosts(vec!["127.0.0.1".into()])).arrived(), 1);
    assert_eq!(run(AllowPrivate::All).arrived(), 2);
    assert_eq!(server.requests("/good/10").len(), 1);
}

#[test]
fn a_second_pull_fetches_only_what_is_missing() {
    let server = hostile();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let urls = ["/good/10", "/fails-twice/20", "/good/30", "/good/10"].map(|path| server.url(path));
    let once = Settings { retries: 0, ..settings(&server) };
    let source = list(folder.path(), urls.clone());
    let summary = pull(std::slice::from_ref(&source), &out, &once, &()).unwrap();
    assert_eq!((summary.samples, summary.arrived()), (4, 3));
    let entries = index(&out);
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["image"], entries[2]["image"], "one address is one file");
    assert_ne!(entries[0]["key"], entries[2]["key"], "but its lines are samples of their own");

    // A file that was damaged, one that failed, and one that is new.
    fs::write(out.join(statuses(&out)[2].file.as_ref().unwrap()), "damaged").unwrap();
    let source = list(folder.path(), [server.url("/good/40")].into_iter().chain(urls));
    let summary = pull(&[source], &out, &settings(&server), &()).unwrap();
    assert_eq!((summary.samples, summary.arrived()), (5, 5));
    let counts =
        ["/good/10", "/fails-twice/20", "/good/30", "/good/40"].map(|path| server.requests(path).len());
    assert_eq!(counts, [1, 3, 2, 1]);
    assert_arrived(&out, &statuses(&out)[3], &body("/good/30", 30));
}

#[test]
fn a_list_of_the_web_brings_captions_hashes_and_metadata() {
    let image = body("/good/500", 500);
    let rows = format!(
        "URL,TEXT,sha256,licence\nHOST/good/500,\"a cat, asleep\",{},CC0\nHOST/good/600,a dog,{},\n",
        sha256(&image),
        sha256(b"another")
    );
    let server = Server::start(move |request, stream| {
        let bytes = match request.path.as_str() {
            "/list.csv" => {
                rows.replace("HOST", &format!("http://{}", request.header("host").unwrap())).into_bytes()
            }
            path => body(path, request.size()),
        };
        good(request, stream, &bytes, "x")
    });
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    pull(&[server.url("/list.csv")], &out, &settings(&server), &()).unwrap();
    let statuses = statuses(&out);
    assert_arrived(&out, &statuses[0], &image);
    assert_eq!(statuses[1].outcome, Outcome::Corrupt);
    assert!(statuses[1].reason.as_ref().unwrap().contains("was listed"));
    let entries = index(&out);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["caption"], "a cat, asleep");
    assert_eq!(entries[0]["image"], statuses[0].file.as_deref().unwrap());
    assert_eq!(entries[0]["meta"]["licence"], "CC0");
    assert_eq!(entries[0]["meta"]["url"], server.url("/good/500"));

    let error = pull(&[server.url("/missing.csv")], &out, &settings(&server), &());
    assert!(matches!(error, Err(Error::List { .. })), "a page that is no list: {error:?}");
}

#[test]
fn requests_to_one_host_are_spaced() {
    let server = hostile();
    let folder = tempfile::tempdir().unwrap();
    let source = list(folder.path(), (0..8).map(|i| server.url(&format!("/good/{}", 100 + i))));
    let settings = Settings { rate: Some(20.0), ..settings(&server) };
    let started = Instant::now();
    pull(&[source], &folder.path().join("out"), &settings, &()).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(7 * 50), "{:?}", started.elapsed());
}

#[test]
fn tars_must_be_whole() {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["a.jpg", "a.txt"] {
        let bytes = body(name, 3000);
        let mut header = tar::Header::new_ustar();
        header.set_size(3000);
        header.set_cksum();
        builder.append_data(&mut header, name, &*bytes).unwrap();
    }
    let whole = builder.into_inner().unwrap();
    let tar = whole.clone();
    let server = Server::start(move |request, stream| {
        let end = if request.path.contains("cut") { 5000 } else { tar.len() };
        good(request, stream, &tar[..end], "t")
    });
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let local = folder.path().join("00.tar");
    fs::write(&local, &whole[..5000]).unwrap();
    let sources =
        [server.url("/x/{00..01}.tar"), server.url("/cut/00.tar"), local.to_str().unwrap().to_owned()];
    pull(&sources, &out, &settings(&server), &()).unwrap();
    let statuses = statuses(&out);
    assert_eq!(
        [&statuses[0], &statuses[1]].map(|s| s.file.as_deref()),
        [Some("tars/00.tar"), Some("tars/01.tar")]
    );
    assert_arrived(&out, &statuses[0], &whole);
    for status in &statuses[2..] {
        assert_eq!(status.outcome, Outcome::Corrupt, "{status:?}");
        assert!(status.reason.as_ref().unwrap().contains("ends within member 2"), "{status:?}");
    }
}
