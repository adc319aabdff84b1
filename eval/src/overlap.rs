//! Preparing what comes next while what came before is used.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What the threads share.
struct State<I> {
    inputs: I,
    /// The number of the next input.
    next: usize,
    /// How many results were used.
    used: usize,
    ended: bool,
}

struct Shared<I> {
    state: Mutex<State<I>>,
    changed: Condvar,
}

impl<I> Shared<I> {
    fn state(&self) -> MutexGuard<'_, State<I>> {
        // A thread that panicked leaves the state as it was between two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }
}

/// Make something of inputs on `threads` threads and give it, in the order of the inputs, to `take`. At most `ahead` of them
/// are made and not yet used, so that memory does not grow with their number.
pub(crate) fn prepare<T: Send, R: Send, O>(
    inputs: impl Iterator<Item = T> + Send,
    threads: usize,
    ahead: usize,
    make: impl Fn(T) -> R + Sync,
    take: impl FnOnce(&mut dyn Iterator<Item = R>) -> O,
) -> O {
    let state = State { inputs, next: 0, used: 0, ended: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new() };
    let ahead = ahead.max(1);
    let (sender, receiver) = sync_channel(ahead);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, shared, make) = (sender.clone(), &shared, &make);
            scope.spawn(move || work(shared, ahead, make, &sender));
        }
        drop(sender);
        let mut results = Results { shared: &shared, receiver, early: BTreeMap::new(), next: 0 };
        take(&mut results)
    })
}

/// Ends all threads when one of them panics, so that nobody waits for what it was making.
struct Guard<'s, I>(&'s Shared<I>);

impl<I> Drop for Guard<'_, I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

fn work<T, R>(
    shared: &Shared<impl Iterator<Item = T>>,
    ahead: usize,
    make: &impl Fn(T) -> R,
    sender: &SyncSender<(usize, R)>,
) {
    let _guard = Guard(shared);
    loop {
        let mut state = shared.state();
        while !state.ended && state.next >= state.used + ahead {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            return;
        }
        let Some(input) = state.inputs.next() else {
            drop(state);
            return;
        };
        let number = state.next;
        state.next += 1;
        drop(state);
        if sender.send((number, make(input))).is_err() {
            return;
        }
    }
}

struct Results<'s, I, R> {
    shared: &'s Shared<I>,
    receiver: Receiver<(usize, R)>,
    /// Those that were made before their turn.
    early: BTreeMap<usize, R>,
    next: usize,
}

impl<I, R> Drop for Results<'_, I, R> {
    fn drop(&mut self) {
        // Whatever was not taken is not made any more.
        self.shared.end();
    }
}

impl<I, R> Iterator for Results<'_, I, R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        let found = loop {
            if let Some(found) = self.early.remove(&self.next) {
                break found;
            }
            // All senders are gone when there is no more input.
            let (number, made) = self.receiver.recv().ok()?;
            self.early.insert(number, made);
        };
        self.next += 1;
        self.shared.state().used = self.next;
        self.shared.changed.notify_all();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_and_no_more_are_made_than_allowed() {
        let (made, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let most = AtomicUsize::new(0);
        let make = |at: usize| {
            let early = 1 + made.fetch_add(1, Ordering::SeqCst) - used.load(Ordering::SeqCst).min(at);
            most.fetch_max(early, Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros((at as u64 * 7919) % 500));
            at * 2
        };
        let found: Vec<usize> = prepare(0..300, 4, 10, make, |results| {
            results
                .inspect(|_| {
                    used.fetch_add(1, Ordering::SeqCst);
                })
                .collect()
        });
        assert_eq!(found, (0..300).map(|at| at * 2).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 10 + 1, "{most:?} were ahead");
    }

    #[test]
    fn who_stops_early_waits_for_nothing() {
        let made = AtomicUsize::new(0);
        let make = |at: usize| made.fetch_add(1, Ordering::SeqCst) + at;
        assert_eq!(prepare(0.., 3, 4, make, |results| results.take(5).count()), 5);
        assert!(made.load(Ordering::SeqCst) < 20);
        let caught = std::panic::catch_unwind(|| {
            prepare(0..9, 3, 4, |at| assert_ne!(at, 2), |results| results.count())
        });
        assert!(caught.is_err(), "a panic of a thread is one of the caller");
        assert_eq!(prepare(0..0, 3, 4, |at: usize| at, |results| results.count()), 0);
    }

    #[test]
    fn what_comes_next_is_made_while_the_device_works() {
        // Twenty inputs that take 5 ms to make and 5 ms to use take about 100 ms, not 200.
        let wait = || std::thread::sleep(Duration::from_millis(5));
        let start = std::time::Instant::now();
        prepare(0..20, 1, 4, |_| wait(), |results| results.for_each(|()| wait()));
        assert!(start.elapsed() < Duration::from_millis(170), "{:?}", start.elapsed());
    }
}
