//! How long to wait before another try.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Settings;
use super::fault::{Again, Fault};
use super::place::Key;

/// No pause between two tries is longer, unless the server requests it.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause before the next try, or none where another try is useless or all tries are used up.
///
/// Pauses double from one try to the next; each is drawn from the upper half of its span, so that what failed
/// together does not come back together.
pub(super) fn pause(settings: &Settings, key: Key, spent: &mut u32, fault: &Fault) -> Option<Duration> {
    if fault.again == Again::Never {
        return None;
    }
    if fault.progress {
        *spent = 0;
    } else if *spent >= settings.retries {
        return None;
    } else {
        *spent += 1;
    }
    if let Again::After(wait) = fault.again {
        return Some(wait);
    }
    let span = settings.backoff.saturating_mul(1 << spent.saturating_sub(1).min(16)).min(LONGEST);
    let mut rng = ChaCha12Rng::seed_from_u64(settings.seed);
    rng.set_stream(key.low());
    rng.set_word_pos(u128::from(*spent));
    Some(span.mul_f64(0.5 + 0.5 * f64::from(rng.next_u32()) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::status::Outcome;
    use super::*;

    #[test]
    fn pauses_double_jitter_and_end() {
        let settings = Settings { retries: 4, backoff: Duration::from_secs(1), ..Settings::default() };
        let fault = Fault::passing(Outcome::Network, "");
        let run = |url: &str| {
            let mut spent = 0;
            let next = || pause(&settings, Key::of(url), &mut spent, &fault);
            std::iter::from_fn(next).map(|p| p.as_secs_f64()).collect::<Vec<_>>()
        };
        let a = run("a");
        assert_eq!(a.len(), 4);
        for (i, pause) in a.iter().enumerate() {
            let span = f64::from(1 << i);
            assert!((span / 2.0..=span).contains(pause), "{a:?}");
        }
        assert_eq!(a, run("a"));
        assert_ne!(a, run("b"));
    }

    #[test]
    fn progress_costs_no_patience_and_the_server_names_its_pause() {
        let settings = Settings { retries: 0, ..Settings::default() };
        let wait = Duration::from_secs(7);
        let mut fault = Fault { again: Again::After(wait), progress: true, ..Fault::status(503, None) };
        assert_eq!(pause(&settings, Key::of("a"), &mut 0, &fault), Some(wait));
        fault.progress = false;
        assert_eq!(pause(&settings, Key::of("a"), &mut 0, &fault), None);
    }
}
