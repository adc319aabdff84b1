//! The crate's parallel shape: a whole program is one broadcast over a thread pool.
//!
//! Every thread runs the same program (SPMD) and meets the others at barriers between steps. Within a step, work is
//! split by [`Team::share`] (contiguous, static) or [`Team::tiles`] (one atomic counter).

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

mod workers;

use workers::{Waiters, Workers};

/// Shared loops between two barriers; one more inserts a barrier.
const LOOPS: usize = 16;

/// A pool that could not be built, or a program that panicked on it.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The operating system refused the threads.
    #[error("cannot start {threads} CPU threads: {reason}; ask for fewer threads")]
    Start {
        /// The number of threads requested.
        threads: usize,
        /// What the operating system said.
        reason: String,
    },
    /// A kernel panicked; the other threads gave up at their next barrier.
    #[error("a CPU kernel panicked: {0}")]
    Panicked(String),
}

/// A fixed number of threads that run one program at a time; the calling thread is one of them.
pub struct Pool {
    workers: Option<Workers>,
    size: usize,
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `size` threads, or of as many as the machine offers when `size` is 0.
    pub fn new(size: usize) -> Result<Pool, PoolError> {
        let size = match size {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let workers = (size > 1).then(|| Workers::new(size - 1)).transpose()?;
        Ok(Pool { workers, size, turn: Mutex::new(()) })
    }

    /// The number of threads, the calling one included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Runs `program` on the calling thread alone, as a team of one.
    pub fn run_alone<F>(&self, program: F) -> Result<(), PoolError>
    where
        F: Fn(&Team<'_>) + Sync,
    {
        let shared = Shared::new(1, false);
        shared.enter(0, &program);
        shared.finish()
    }

    /// Runs `program` once on every thread and returns when all are done.
    ///
    /// Concurrent calls take turns. A call from inside a program runs on the calling thread alone.
    pub fn run<F>(&self, program: F) -> Result<(), PoolError>
    where
        F: Fn(&Team<'_>) + Sync,
    {
        self.run_with(false, program)
    }

    /// As [`Pool::run`]; each thread's [`Team::take_waited`] says how long it stood at barriers.
    pub fn run_timed<F>(&self, program: F) -> Result<(), PoolError>
    where
        F: Fn(&Team<'_>) + Sync,
    {
        self.run_with(true, program)
    }

    fn run_with<F>(&self, timed: bool, program: F) -> Result<(), PoolError>
    where
        F: Fn(&Team<'_>) + Sync,
    {
        let Some(workers) = self.workers.as_ref().filter(|_| !RUNNING.get()) else {
            let shared = Shared::new(1, timed);
            shared.enter(0, &program);
            return shared.finish();
        };
        let _turn = lock(&self.turn);
        let shared = Shared::new(self.size, timed);
        workers.run(&|rank| shared.enter(rank, &program));
        shared.finish()
    }
}

thread_local! {
    /// Set while this thread runs a program: a nested run would wait for its own turn for ever.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unwinds a thread whose teammate panicked; never reported itself.
struct Abandoned;

/// On its own cache line, so that claims of tiles do not disturb the barrier.
#[repr(align(64))]
struct Padded(AtomicUsize);

struct Shared {
    size: usize,
    /// Threads time how long they stand at barriers.
    timed: bool,
    arrived: Padded,
    generation: Padded,
    /// Threads that wait until the generation changes.
    waiters: Waiters,
    broken: AtomicBool,
    panic: Mutex<Option<String>>,
    claims: [Padded; LOOPS],
}

impl Shared {
    fn new(size: usize, timed: bool) -> Shared {
        Shared {
            size,
            timed,
            arrived: Padded(AtomicUsize::new(0)),
            generation: Padded(AtomicUsize::new(0)),
            waiters: Waiters::default(),
            broken: AtomicBool::new(false),
            panic: Mutex::new(None),
            claims: [const { Padded(AtomicUsize::new(0)) }; LOOPS],
        }
    }

    fn enter<F: Fn(&Team<'_>)>(&self, rank: usize, program: &F) {
        let team = Team { rank, shared: self, loops: Cell::new(0), waited: Cell::new(Duration::ZERO) };
        let outer = RUNNING.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| program(&team)));
        RUNNING.set(outer);
        if let Err(payload) = result {
            self.broken.store(true, Ordering::SeqCst);
            self.waiters.wake();
            if !payload.is::<Abandoned>() {
                lock(&self.panic).get_or_insert_with(|| message(&*payload));
            }
        }
    }

    fn finish(self) -> Result<(), PoolError> {
        match self.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(message) => Err(PoolError::Panicked(message)),
            None => Ok(()),
        }
    }

    /// Waits for every thread; the last to come clears the counters of the `loops` since the last barrier.
    fn wait(&self, loops: usize) {
        let generation = self.generation.0.load(Ordering::Acquire);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.size {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.claims[..loops].iter().for_each(|claim| claim.0.store(0, Ordering::Relaxed));
            self.generation.0.store(generation.wrapping_add(1), Ordering::SeqCst);
            return self.waiters.wake();
        }
        self.waiters.wait(|order| self.generation.0.load(order) != generation || self.broken.load(order));
        if self.generation.0.load(Ordering::Acquire) == generation {
            resume_unwind(Box::new(Abandoned));
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

/// One thread's view of the team that runs a program. All threads must make the same sequence of calls to
/// [`Team::barrier`] and [`Team::tiles`].
pub struct Team<'a> {
    rank: usize,
    shared: &'a Shared,
    /// Shared loops begun since the last barrier.
    loops: Cell<usize>,
    /// Time at barriers since it was last taken, in a timed run.
    waited: Cell<Duration>,
}

impl Team<'_> {
    /// Runs `program` on the calling thread alone, as a team of one.
    pub fn alone<R>(program: impl FnOnce(&Team<'_>) -> R) -> R {
        let shared = Shared::new(1, false);
        program(&Team { rank: 0, shared: &shared, loops: Cell::new(0), waited: Cell::new(Duration::ZERO) })
    }

    /// This thread's number, `0..size`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of threads in the team.
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// Waits until every thread of the team is here; what they wrote before is then visible.
    ///
    /// Unwinds when a teammate has panicked, so that no thread waits for ever.
    pub fn barrier(&self) {
        if !self.shared.timed {
            return self.shared.wait(self.loops.replace(0));
        }
        let at = Instant::now();
        self.shared.wait(self.loops.replace(0));
        self.waited.set(self.waited.get() + at.elapsed());
    }

    /// How long this thread stood at barriers since this was last asked, in a run of [`Pool::run_timed`].
    pub fn take_waited(&self) -> Duration {
        self.waited.take()
    }

    /// This thread's contiguous part of `0..n`, cut at multiples of `grain`; the parts of all threads cover `0..n`.
    pub fn share(&self, n: usize, grain: usize) -> Range<usize> {
        let grain = grain.max(1);
        let grains = n.div_ceil(grain);
        let cut = |rank: usize| (grains * rank / self.size() * grain).min(n);
        cut(self.rank)..cut(self.rank + 1)
    }

    /// Calls `body` for every tile in `0..n`, each on whichever thread claims it first. Ends without a barrier.
    pub fn tiles(&self, n: usize, body: impl FnMut(usize)) {
        self.claims(n).for_each(body);
    }

    /// The tiles of `0..n` that this thread claims, as [`Team::tiles`]; a loop over them is compiled with the
    /// instruction set of the function it stands in, which a closure is not.
    #[inline]
    pub fn claims(&self, n: usize) -> Claims<'_> {
        if self.loops.get() == LOOPS {
            self.barrier();
        }
        let slot = self.loops.replace(self.loops.get() + 1);
        Claims { next: &self.shared.claims[slot].0, n }
    }

    /// As [`Team::claims`], but most neighbouring tiles are one thread's: what it prefetches past a tile's
    /// end is its own next tile. The last quarter goes to the threads that are ready.
    #[inline]
    pub fn runs(&self, n: usize) -> impl Iterator<Item = usize> + '_ {
        let dealt = Self::dealt(n);
        self.share(dealt, 1).chain(self.claims(n - dealt).map(move |tile| dealt + tile))
    }

    /// The tile that [`Team::runs`] most likely gives this thread first.
    pub fn first(&self, n: usize) -> usize {
        self.share(Self::dealt(n), 1).start
    }

    fn dealt(n: usize) -> usize {
        n / 4 * 3
    }
}

/// The tiles one thread claims of a loop that its team shares; made by [`Team::claims`].
pub struct Claims<'a> {
    next: &'a AtomicUsize,
    n: usize,
}

impl Iterator for Claims<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let tile = self.next.fetch_add(1, Ordering::Relaxed);
        (tile < self.n).then_some(tile)
    }
}

/// A mutable slice that the threads of a team write in disjoint parts.
pub struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a shared slice only hands out parts through unsafe methods whose callers promise disjointness.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as above; two threads never hold overlapping parts.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<T> Clone for SharedSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Shares `slice` for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        SharedSlice { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Shares `len` elements from `start` on.
    ///
    /// # Safety
    /// For `'a` the elements are valid and initialized, and are touched through copies of this slice only.
    pub unsafe fn from_raw(start: *mut T, len: usize) -> Self {
        SharedSlice { start, len, owner: PhantomData }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element's address; reads and writes through it follow the rules of [`SharedSlice::part`].
    pub fn as_ptr(&self) -> *mut T {
        self.start
    }

    /// The elements of `range`, to be written. Panics when `range` is outside.
    ///
    /// # Safety
    /// Until the next barrier no other thread may read or write an element of `range`, and this thread must not hold
    /// another part that overlaps it.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "part {range:?} of a slice of {}",
            self.len
        );
        // SAFETY: in bounds by the line above; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }

    /// The elements of `range`, to be read. Panics when `range` is outside.
    ///
    /// # Safety
    /// Until the next barrier no thread may write an element of `range`.
    pub unsafe fn view(&self, range: Range<usize>) -> &'a [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "part {range:?} of a slice of {}",
            self.len
        );
        // SAFETY: in bounds by the line above; not written meanwhile by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.end - range.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_and_respect_the_grain() {
        for size in [1, 2, 3, 5] {
            let pool = Pool::new(size).unwrap();
            for (n, grain) in [(0, 1), (1, 4), (17, 4), (64, 16), (1000, 7)] {
                let mut hits = vec![0u8; n];
                let shared = SharedSlice::new(&mut hits);
                pool.run(|team| {
                    let range = team.share(n, grain);
                    assert!(range.start % grain == 0 || range.start == n);
                    // SAFETY: shares are disjoint.
                    unsafe { shared.part(range) }.iter_mut().for_each(|h| *h += 1);
                })
                .unwrap();
                assert!(hits.iter().all(|&h| h == 1));
            }
        }
    }

    #[test]
    fn tiles_run_once_each_over_many_loops_without_barriers() {
        let pool = Pool::new(3).unwrap();
        for n in [0usize, 1, 2, 37] {
            let loops = 5 * LOOPS + 3;
            let hits: Vec<AtomicUsize> = (0..n * loops).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|team| {
                for round in 0..loops {
                    let hit = |tile: usize| {
                        hits[round * n + tile].fetch_add(1, Ordering::Relaxed);
                    };
                    if round % 2 == 0 { team.tiles(n, hit) } else { team.runs(n).for_each(hit) }
                }
            })
            .unwrap();
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_barrier_makes_every_write_visible() {
        let pool = Pool::new(4).unwrap();
        let mut values = vec![0usize; 4];
        let shared = SharedSlice::new(&mut values);
        pool.run(|team| {
            for round in 1..200 {
                // SAFETY: each thread writes its own element.
                let own = unsafe { shared.part(team.rank()..team.rank() + 1) };
                own[0] = round * (team.rank() + 1);
                team.barrier();
                // SAFETY: no thread writes between these barriers.
                let sum: usize = unsafe { shared.view(0..4) }.iter().sum();
                assert_eq!(sum, round * 10);
                team.barrier();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_panic_in_any_rank_is_an_error_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        for rank in 0..3 {
            let error = pool
                .run(|team| {
                    team.barrier();
                    assert!(team.rank() != rank, "rank {rank} fails");
                    team.barrier();
                    team.tiles(8, |_| {});
                    team.barrier();
                })
                .unwrap_err();
            assert!(error.to_string().contains(&format!("rank {rank} fails")), "{error}");
            pool.run(|team| team.barrier()).unwrap();
        }
    }

    #[test]
    fn threads_that_sleep_at_a_barrier_are_woken_by_the_last_to_come_and_by_a_panic() {
        let pool = Pool::new(3).unwrap();
        let late = || std::thread::sleep(Duration::from_millis(30));
        for rank in 0..3 {
            let met = AtomicUsize::new(0);
            pool.run(|team| {
                if team.rank() == rank {
                    late();
                }
                team.barrier();
                met.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
            assert_eq!(met.into_inner(), 3);
            let error = pool.run(|team| {
                if team.rank() == rank {
                    late();
                    panic!("late and broken");
                }
                team.barrier();
            });
            assert!(error.unwrap_err().to_string().contains("late and broken"));
        }
    }

    #[test]
    fn nested_and_concurrent_runs_finish() {
        let pool = Pool::new(2).unwrap();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(|team| {
                            team.barrier();
                            pool.run(|inner| {
                                assert_eq!(inner.size(), 1);
                                count.fetch_add(1, Ordering::Relaxed);
                            })
                            .unwrap();
                            team.barrier();
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 400);
    }
}
