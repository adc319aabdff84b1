//! How often requests go to each host.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

/// The most hosts that are remembered; beyond it those that may get a request at once are dropped.
const MANY: usize = 1 << 16;

/// Spaces requests out, host by host.
pub(super) struct Hosts {
    interval: Duration,
    turns: Mutex<HashMap<String, Turns>>,
}

struct Turns {
    /// When the next request may be made.
    next: Instant,
    /// Until when the host wants to be left alone, turns that were given out included.
    rest: Instant,
}

impl Hosts {
    /// `rate` requests per second for each host; no limit without it.
    pub fn new(rate: Option<f64>) -> Self {
        let interval = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, turns: Mutex::new(HashMap::new()) }
    }

    /// Take the next turn at a host; it comes after this time.
    pub fn reserve(&self, url: &Url) -> Duration {
        self.with(url, |turns, now| {
            let mine = turns.next.max(turns.rest).max(now);
            turns.next = mine + self.interval;
            mine - now
        })
    }

    /// Leave a host alone for a while.
    pub fn rest(&self, url: &Url, wait: Duration) {
        self.with(url, |turns, now| turns.rest = turns.rest.max(now + wait));
    }

    /// How long the host wants to be left alone, if it does.
    pub fn resting(&self, url: &Url) -> Option<Duration> {
        self.with(url, |turns, now| turns.rest.checked_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    fn with<T>(&self, url: &Url, act: impl FnOnce(&mut Turns, Instant) -> T) -> T {
        let now = Instant::now();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= MANY {
            turns.retain(|_, t| t.next.max(t.rest) > now);
        }
        act(turns.entry(name(url)).or_insert(Turns { next: now, rest: now }), now)
    }
}

fn name(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_at_one_host_are_spaced_and_a_rest_holds_for_all() {
        let hosts = Hosts::new(Some(2.0));
        let url = |text: &str| Url::parse(text).unwrap();
        let (a, b) = (url("http://a.example/1"), url("https://a.example/2"));
        let half = |wait: Duration| (wait.as_secs_f64() * 2.0).round() / 2.0;
        assert_eq!([hosts.reserve(&a), hosts.reserve(&a), hosts.reserve(&a)].map(half), [0.0, 0.5, 1.0]);
        assert_eq!(half(hosts.reserve(&b)), 0.0, "another port is another host");
        assert_eq!(hosts.resting(&a), None);
        hosts.rest(&a, Duration::from_secs(30));
        hosts.rest(&a, Duration::from_secs(3));
        assert_eq!(hosts.resting(&a).map(half), Some(30.0));
        assert_eq!([hosts.reserve(&a), hosts.reserve(&a)].map(half), [30.0, 30.5]);
    }
}
