//! Threads that wait for programs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};

use super::{Padded, PoolError, lock};

/// Spins before a waiting thread goes to sleep: some 100 µs, longer than steps usually differ between threads, and than
/// the host takes from one program to the next. To be woken takes about as long. A thread that only yielded its core
/// would hold back the very teammate that it waits for, wherever more threads are ready than there are cores.
const SPINS: u32 = 4096;

/// Threads that wait until something has become true: they spin, then sleep.
#[derive(Default)]
pub(super) struct Waiters {
    /// Threads that sleep, or are about to.
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    woken: Condvar,
}

impl Waiters {
    /// Waits until `ready`, which loads what it looks at in the order that it is given. What makes it true is stored with
    /// [`Ordering::SeqCst`], before [`Waiters::wake`].
    pub fn wait(&self, ready: impl Fn(Ordering) -> bool) {
        for _ in 0..SPINS {
            if ready(Ordering::Acquire) {
                return;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let held = lock(&self.asleep);
        drop(self.woken.wait_while(held, |()| !ready(Ordering::SeqCst)));
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes the threads that sleep. What they wait for was stored before, and either this thread sees that they
    /// sleep or they, who say so before they look, see what was stored.
    pub fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.asleep));
            self.woken.notify_all();
        }
    }
}

/// What every thread runs, with its number from 1 on.
type Program = &'static (dyn Fn(usize) + Sync);

/// Where programs are left for the threads.
struct Post {
    /// Programs left so far, and the threads that wait for the next.
    left: Padded,
    start: Waiters,
    program: Mutex<Option<Program>>,
    /// Threads that are done with the program, and the one that waits for them.
    done: Padded,
    end: Waiters,
    closed: AtomicBool,
}

/// Threads that run the programs that are left for them; they end when this is dropped.
pub(super) struct Workers {
    post: Arc<Post>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// `count` threads.
    pub fn new(count: usize) -> Result<Workers, PoolError> {
        let post = Arc::new(Post {
            left: Padded(AtomicUsize::new(0)),
            start: Waiters::default(),
            program: Mutex::new(None),
            done: Padded(AtomicUsize::new(0)),
            end: Waiters::default(),
            closed: AtomicBool::new(false),
        });
        let mut workers = Workers { post, threads: Vec::with_capacity(count) };
        for number in 1..=count {
            let post = workers.post.clone();
            let thread =
                Builder::new().name(format!("percept-cpu-{number}")).spawn(move || post.work(number, count));
            let thread =
                thread.map_err(|e| PoolError::Start { threads: count + 1, reason: e.to_string() })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Runs `program` on every thread, and as number 0 on the calling one; returns when all are done. One program runs at
    /// a time: the caller sees to it. A program must not unwind.
    pub fn run(&self, program: &(dyn Fn(usize) + Sync)) {
        // SAFETY: threads take the program once each and then count themselves done, which `Done` waits for when it is
        // dropped, before this function returns or unwinds. So none uses it after the borrow has ended.
        let shared = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Program>(program) };
        let done = Done(self);
        self.post.done.0.store(0, Ordering::SeqCst);
        *lock(&self.post.program) = Some(shared);
        self.post.left.0.fetch_add(1, Ordering::SeqCst);
        self.post.start.wake();
        program(0);
        drop(done);
    }
}

/// Waits for all threads when it is dropped.
struct Done<'a>(&'a Workers);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let Workers { post, threads } = self.0;
        post.end.wait(|order| post.done.0.load(order) == threads.len());
    }
}

impl Post {
    fn work(&self, number: usize, count: usize) {
        let mut seen = 0;
        loop {
            self.start.wait(|order| self.left.0.load(order) != seen);
            // One at a time: the next is left when all are done with this one.
            seen += 1;
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            let program = *lock(&self.program);
            if let Some(program) = program {
                program(number);
            }
            if self.done.0.fetch_add(1, Ordering::SeqCst) + 1 == count {
                self.end.wake();
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.post.closed.store(true, Ordering::SeqCst);
        self.post.left.0.fetch_add(1, Ordering::SeqCst);
        self.post.start.wake();
        for thread in self.threads.drain(..) {
            // Programs do not unwind, so neither does a thread.
            let _ = thread.join();
        }
    }
}
