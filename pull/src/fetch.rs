//! One try at fetching a file, going on where the last one ended.

use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::header;
use url::Url;

use super::client::{Answer, Client};
use super::fault::{Again, Fault};
use super::part::Part;
use super::place::Key;
use super::status::Outcome;
use super::{Settings, backoff, excess, robots};

/// A body that comes more slowly than this, over as long as the time-out, has stalled.
const LEAST_BYTES_PER_SECOND: f64 = 256.0;

/// A try that brings so many bytes is not counted as failed.
const PROGRESS: u64 = 1 << 20;

/// What is fetched and what is known about it beforehand.
pub(super) struct Want<'a> {
    pub url: &'a Url,
    /// Most bytes it may have.
    pub cap: Option<u64>,
    /// The size of the file in bytes, where it is known.
    pub bytes: Option<u64>,
    pub sha256: Option<&'a str>,
    /// Whether `X-Robots-Tag` binds.
    pub robots: bool,
    /// Whether a file of no bytes is one.
    pub may_be_empty: bool,
}

/// Why a try failed: the file's fault, or the disk's.
pub(super) enum Trouble {
    Fault(Fault),
    Disk(io::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Trouble::Fault(fault)
    }
}

/// Try once to make `part` whole. `brought` is called with the bytes as they arrive; `furthest` is how far
/// any try has come.
pub(super) fn attempt(
    client: &Client,
    want: &Want<'_>,
    part: &mut Part,
    timeout: Duration,
    furthest: &mut u64,
    brought: &dyn Fn(u64),
) -> Result<(), Trouble> {
    *furthest = part.len().max(*furthest);
    let result = run(client, want, part, timeout, brought);
    if let Err(Trouble::Fault(fault)) = result {
        part.keep().map_err(Trouble::Disk)?;
        // Measured from the furthest of all tries: a server that always begins again makes no progress.
        let progress = part.resumable().is_some() && part.len() >= *furthest + PROGRESS;
        *furthest = part.len().max(*furthest);
        return Err(Trouble::Fault(Fault { progress, ..fault }));
    }
    result
}

fn run(
    client: &Client,
    want: &Want<'_>,
    part: &mut Part,
    timeout: Duration,
    brought: &dyn Fn(u64),
) -> Result<(), Trouble> {
    // What is listed as too large is not even requested.
    want.bytes.map_or(Ok(()), |bytes| within(want, bytes))?;
    let mut answer = client.get(want.url, part.resumable())?;
    // What the connections of redirects left over is of no matter.
    excess::take();
    let total = begin(client, want, part, &answer)?;
    let ended_early = |total: u64| {
        Fault::passing(Outcome::Corrupt, format!("it ended before the {total} bytes that were announced"))
            .with_http(200)
    };
    let mut bytes = vec![0; 1 << 16];
    let mut window = (Instant::now(), 0.0);
    loop {
        let n = match answer.body.read(&mut bytes) {
            Ok(n) => n,
            Err(error) => {
                let fault = Fault::from(error);
                return Err(match total {
                    Some(total) if fault.is_disconnection() => ended_early(total).into(),
                    _ => fault.into(),
                });
            }
        };
        if n == 0 {
            break;
        }
        let len = part.len() + n as u64;
        within(want, len)?;
        part.write(&bytes[..n]).map_err(Trouble::Disk)?;
        brought(n as u64);
        window.1 += n as f64;
        let passed = window.0.elapsed();
        if passed >= timeout {
            if window.1 < LEAST_BYTES_PER_SECOND * passed.as_secs_f64() {
                let why = format!("it stalled: fewer than {LEAST_BYTES_PER_SECOND} bytes per second came");
                return Err(Fault::passing(Outcome::Network, why).into());
            }
            window = (Instant::now(), 0.0);
        }
    }
    if let Some(total) = total.filter(|total| part.len() < *total) {
        return Err(ended_early(total).into());
    }
    let fault = if excess::take() {
        format!("more came than the {} bytes that were announced", part.len())
    } else if want.bytes.is_some_and(|bytes| bytes != part.len()) {
        format!("it has {} bytes, and {} were listed", part.len(), want.bytes.unwrap_or_default())
    } else if part.len() == 0 && !want.may_be_empty {
        "it is empty".to_owned()
    } else if let Some(listed) = want.sha256.filter(|listed| !listed.eq_ignore_ascii_case(&part.sha256())) {
        format!("its sha256 is {}, and {listed} was listed", part.sha256())
    } else {
        return Ok(());
    };
    part.begin(None).map_err(Trouble::Disk)?;
    Err(Fault::passing(Outcome::Corrupt, fault).with_http(200).into())
}

/// Judge the head of an answer before any of its body is taken, and make the part ready for it. Returns the
/// size of the whole file if it is announced.
fn begin(client: &Client, want: &Want<'_>, part: &mut Part, answer: &Answer) -> Result<Option<u64>, Trouble> {
    if !matches!(answer.status, 200 | 206) {
        let wait = answer.retry_after();
        let mut fault = Fault::status(answer.status, wait);
        if let Again::After(wait) = fault.again {
            client.hosts.rest(want.url, wait);
        }
        if answer.status == 416 && part.len() > 0 {
            // What is there is more than the file has; it has changed, or its size was a lie.
            part.begin(None).map_err(Trouble::Disk)?;
            fault.again = Again::Later;
        }
        return Err(fault.into());
    }
    let at = |outcome, why: String| Fault::last(outcome, why).with_http(200);
    if want.robots {
        let tags = answer.headers.get_all("x-robots-tag");
        if let Some(directive) = robots::forbidden(tags.iter().map(|value| value.as_bytes())) {
            return Err(at(Outcome::Robots, format!("X-Robots-Tag says {directive}")).into());
        }
    }
    if let Some(encoding) = answer.header(header::CONTENT_ENCODING).filter(|e| *e != "identity") {
        let why = format!("it came in the encoding {encoding}, which was not requested");
        return Err(at(Outcome::Corrupt, why).into());
    }
    // A length beside a transfer encoding means nothing.
    let plain = !answer.headers.contains_key(header::TRANSFER_ENCODING);
    let declared = answer.header(header::CONTENT_LENGTH).and_then(|l| l.trim().parse::<u64>().ok());
    let declared = declared.filter(|_| plain);
    let total = if answer.status == 206 {
        match rest(part, answer) {
            Some(total) => Some(total),
            None => {
                part.begin(None).map_err(Trouble::Disk)?;
                let why = "it changed while it was being fetched";
                return Err(Fault::passing(Outcome::Corrupt, why).with_http(206).into());
            }
        }
    } else {
        part.begin(version(answer)).map_err(Trouble::Disk)?;
        declared
    };
    if let Some(total) = total {
        if let Some(bytes) = want.bytes.filter(|bytes| *bytes != total) {
            let why = format!("{total} bytes were announced, and {bytes} were listed");
            return Err(at(Outcome::Corrupt, why).into());
        }
        within(want, total)?;
    }
    Ok(total)
}

fn within(want: &Want<'_>, len: u64) -> Result<(), Fault> {
    let cap = want.bytes.unwrap_or(u64::MAX).min(want.cap.unwrap_or(u64::MAX));
    match (len > cap, want.cap) {
        (false, _) => Ok(()),
        (true, Some(allowed)) if cap == allowed => {
            let why = format!("it has more than the {allowed} bytes that --max-bytes allows");
            Err(Fault::last(Outcome::TooLarge, why))
        }
        (true, _) => {
            let why = format!("it has more than the {cap} bytes that were listed");
            Err(Fault::last(Outcome::Corrupt, why).with_http(200))
        }
    }
}

/// The size of the whole file, if the answer is the rest of what the part holds.
fn rest(part: &Part, answer: &Answer) -> Option<u64> {
    let (len, wanted) = part.resumable()?;
    let (range, total) = answer.header(header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total: u64 = total.trim().parse().ok()?;
    let goes_on =
        first.trim().parse() == Ok(len) && last.trim().parse::<u64>().ok()?.checked_add(1) == Some(total);
    let same = version(answer).is_none_or(|version| version == wanted);
    (goes_on && same).then_some(total)
}

/// What `If-Range` takes to name a version of the file.
fn version(answer: &Answer) -> Option<String> {
    let strong = answer.header(header::ETAG).filter(|etag| etag.starts_with('"'));
    strong.or_else(|| answer.header(header::LAST_MODIFIED)).map(str::to_owned)
}

/// Fetch a file that a source itself needs, and wait where the queue would turn to other samples.
pub(super) fn patiently(
    client: &Client,
    want: &Want<'_>,
    parts: &Path,
    place: &Path,
    settings: &Settings,
    brought: &dyn Fn(u64),
) -> Result<(), Trouble> {
    let key = Key::of(want.url.as_str());
    let (mut spent, mut furthest) = (0, 0);
    loop {
        std::thread::sleep(client.hosts.reserve(want.url));
        let mut part = Part::open(parts, key).map_err(Trouble::Disk)?;
        let fault = match attempt(client, want, &mut part, settings.timeout, &mut furthest, brought) {
            Ok(()) => return part.finish(place).map_err(Trouble::Disk),
            Err(Trouble::Fault(fault)) => fault,
            Err(disk) => return Err(disk),
        };
        match backoff::pause(settings, key, &mut spent, &fault) {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(fault.into()),
        }
    }
}
