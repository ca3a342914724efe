//! A team of threads for fork-join work.
//!
//! Work is a number of chunks; every thread claims the next chunk from one counter until none is left, so a thread that the
//! system holds back delays only the chunk it has. A worker that comes when the caller has found the counter exhausted is too
//! late and not waited for: beside another busy process, every fork would otherwise last until the system has let each
//! worker run. Waiting threads spin for about 30 µs, which covers the gap between two
//! products of a step, and then park: beside another busy process a spinning thread would take the processor from the very
//! thread it waits for. Results must not depend on which thread runs which chunk.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::error::KernelError;

/// How long a thread waits by spinning before it parks.
const SPIN: Duration = Duration::from_micros(30);

thread_local! {
    /// Set while this thread runs a body: a nested fork would wait for itself, so it runs inline instead.
    static IN_BODY: Cell<bool> = const { Cell::new(false) };
}

/// Keeps two counters that different threads write apart by two cache lines (the prefetcher fetches pairs).
#[repr(align(128))]
struct Apart<T>(T);

/// The right to claim chunks of the work in progress, and the identity of the thread.
pub struct Worker<'a> {
    index: usize,
    next: &'a AtomicUsize,
    n_chunks: usize,
}

impl Worker<'_> {
    /// Which thread this is: 0 is the caller, below [`Team::n_threads`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The next chunk nobody has, if any.
    pub fn claim(&self) -> Option<usize> {
        let chunk = self.next.fetch_add(1, Ordering::Relaxed);
        (chunk < self.n_chunks).then_some(chunk)
    }
}

/// The state of the forks in one word, so that entering, leaving and closing exclude each other: the number of the latest fork in
/// the upper half, then whether workers may still enter it, and how many are inside.
///
/// Why a worker inside reads the right job: it entered by an exchange that read the fork's store, or a later exchange of the same
/// fork, and so sees what was written before that store. Why nothing it reads changes under it: the next fork begins after `join`
/// has read a word that is closed and has nobody inside, and a closed word stays as it is until then. The last point also makes
/// what workers wrote visible to the caller: it reads the word that the last of them left behind, after those of all others.
struct State(AtomicU64);

impl State {
    const OPEN: u64 = 1 << 31;
    const INSIDE: u64 = State::OPEN - 1;

    fn new() -> State {
        State(AtomicU64::new(0))
    }

    fn fork_of(word: u64) -> u32 {
        (word >> 32) as u32
    }

    /// Begins the next fork. The state must be closed with nobody inside.
    fn open(&self) {
        let fork = State::fork_of(self.0.load(Ordering::SeqCst)).wrapping_add(1);
        let word = u64::from(fork) << 32 | State::OPEN;
        self.0.store(word, Ordering::SeqCst);
    }

    /// Lets nobody in any more.
    fn close(&self) {
        self.0.fetch_and(!State::OPEN, Ordering::SeqCst);
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) & State::INSIDE == 0
    }

    /// Whether there is a fork to enter other than `last`.
    fn is_new(word: u64, last: u32) -> bool {
        word & State::OPEN != 0 && State::fork_of(word) != last
    }

    /// Goes inside the present fork and returns its number, unless it is closed or `last`.
    fn enter(&self, last: u32) -> Option<u32> {
        let entered = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                State::is_new(word, last).then_some(word + 1)
            });
        entered.ok().map(State::fork_of)
    }

    /// Leaves; true if the fork is closed and this was the last inside, so that the caller may be waiting for it.
    fn leave(&self) -> bool {
        let before = self.0.fetch_sub(1, Ordering::SeqCst);
        before & (State::OPEN | State::INSIDE) == 1
    }
}

/// A body with its type erased. Valid while a fork is open or somebody is inside.
#[derive(Clone, Copy)]
struct Job {
    body: *const (),
    call: unsafe fn(*const (), &Worker<'_>),
    n_chunks: usize,
}

struct Shared {
    state: Apart<State>,
    next: Apart<AtomicUsize>,
    /// Per worker: it has parked, or is about to.
    parked: Vec<Apart<AtomicBool>>,
    caller_parked: Apart<AtomicBool>,
    quit: Apart<AtomicBool>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    job: UnsafeCell<Job>,
    caller: UnsafeCell<Option<Thread>>,
}

// SAFETY: `job` and `caller` are written only by the thread inside `Team::run`, while the state is closed and nobody is inside, and
// read only by workers inside (see `State`). Everything else is atomic or behind a mutex. The pointer in `job` is to a `Sync`
// body.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

impl Shared {
    fn new(n_threads: usize) -> Shared {
        unsafe fn nothing(_: *const (), _: &Worker<'_>) {}
        Shared {
            state: Apart(State::new()),
            next: Apart(AtomicUsize::new(0)),
            parked: (1..n_threads)
                .map(|_| Apart(AtomicBool::new(false)))
                .collect(),
            caller_parked: Apart(AtomicBool::new(false)),
            quit: Apart(AtomicBool::new(false)),
            panic: Mutex::new(None),
            job: UnsafeCell::new(Job {
                body: std::ptr::null(),
                call: nothing,
                n_chunks: 0,
            }),
            caller: UnsafeCell::new(None),
        }
    }
}

/// Threads that run one body together. The calling thread is one of them.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One fork at a time, whoever asks.
    running: Mutex<()>,
}

impl Team {
    /// Starts `n_threads - 1` workers; the caller of [`Team::run`] is the last member.
    ///
    /// # Errors
    /// [`KernelError::Thread`] when the system refuses one.
    pub fn new(n_threads: NonZeroUsize) -> Result<Team, KernelError> {
        let n_threads = n_threads.get();
        let shared = Arc::new(Shared::new(n_threads));
        let mut team = Team {
            shared,
            workers: Vec::with_capacity(n_threads - 1),
            running: Mutex::new(()),
        };
        for index in 1..n_threads {
            let shared = Arc::clone(&team.shared);
            let worker = std::thread::Builder::new()
                .name(format!("hearth-{index}"))
                .spawn(move || work(&shared, index))
                .map_err(|source| KernelError::Thread {
                    index,
                    n_threads,
                    source,
                })?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// Members, the calling thread included.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body`, which claims chunks until there are no more, on the calling thread and on every other that comes before it
    /// has finished there, and returns when all have. A single chunk, a team of one and a call from inside a body run on the
    /// calling thread alone.
    ///
    /// # Panics
    /// With the payload of a body that panicked, once every thread has stopped.
    pub fn run<F: Fn(&Worker<'_>) + Sync>(&self, n_chunks: usize, body: F) {
        if n_chunks == 0 {
            return;
        }
        if n_chunks == 1 || self.workers.is_empty() || IN_BODY.get() {
            let next = AtomicUsize::new(0);
            body(&Worker {
                index: 0,
                next: &next,
                n_chunks,
            });
            return;
        }
        let running = lock(&self.running);
        self.fork(&body, n_chunks);
        let worker = Worker {
            index: 0,
            next: &self.shared.next.0,
            n_chunks,
        };
        let own = catch_unwind(AssertUnwindSafe(|| call_body(|| body(&worker))));
        self.join();
        drop(running);
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        if let Some(payload) = lock(&self.shared.panic).take() {
            resume_unwind(payload);
        }
    }

    fn fork<F: Fn(&Worker<'_>) + Sync>(&self, body: &F, n_chunks: usize) {
        unsafe fn call<F: Fn(&Worker<'_>) + Sync>(body: *const (), worker: &Worker<'_>) {
            // SAFETY: `fork` stored a pointer to an `F`, and `run` keeps it alive until `join` returns.
            unsafe { (*body.cast::<F>())(worker) }
        }
        let shared = &*self.shared;
        lock(&shared.panic).take();
        // SAFETY: `running` is held and the previous `join` left the state closed with nobody inside, so no worker reads these.
        unsafe {
            *shared.job.get() = Job {
                body: std::ptr::from_ref(body).cast(),
                call: call::<F>,
                n_chunks,
            };
            *shared.caller.get() = Some(std::thread::current());
        }
        shared.next.0.store(0, Ordering::Relaxed);
        shared.state.0.open();
        self.wake();
    }

    /// Wakes whoever has parked, after a fork or the order to quit. Sequentially consistent on both sides: either the worker sees
    /// that before it parks, or we see that it parks.
    fn wake(&self) {
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked) {
            if parked.0.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    /// Waits for the workers that are inside. Nobody enters any more: either no chunk is left, or the body panicked.
    fn join(&self) {
        let shared = &*self.shared;
        shared.state.0.close();
        wait(&shared.caller_parked.0, || shared.state.0.is_empty());
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.0.store(true, Ordering::SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of bodies; one that died of anything else has nothing left to tell.
            let _ = worker.join();
        }
    }
}

/// Spins, then parks, until `done`. Whoever makes `done` true must then look at `parked` and unpark.
fn wait(parked: &AtomicBool, done: impl Fn() -> bool) {
    let start = Instant::now();
    loop {
        // The clock costs about as much as twenty turns.
        for _ in 0..64 {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            break;
        }
    }
    parked.store(true, Ordering::SeqCst);
    while !done() {
        std::thread::park();
    }
    parked.store(false, Ordering::SeqCst);
}

/// A worker's life.
fn work(shared: &Shared, index: usize) {
    let state = &shared.state.0;
    let has_quit = || shared.quit.0.load(Ordering::SeqCst);
    // The first fork is number 1. Should a worker sleep through all 2^32 numbers, it misses a fork, which goes on without it.
    let mut last = 0;
    loop {
        wait(&shared.parked[index - 1].0, || {
            State::is_new(state.0.load(Ordering::SeqCst), last) || has_quit()
        });
        if has_quit() {
            return;
        }
        let Some(fork) = state.enter(last) else {
            continue;
        };
        last = fork;
        // SAFETY: this worker is inside until `leave`: `job` and `caller` are those of the fork and are not written before.
        let (job, caller) = unsafe { (*shared.job.get(), (*shared.caller.get()).clone()) };
        let worker = Worker {
            index,
            next: &shared.next.0,
            n_chunks: job.n_chunks,
        };
        let run = || {
            // SAFETY: `call` belongs to `body`, which `Team::run` keeps alive while anybody is inside.
            unsafe { (job.call)(job.body, &worker) }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call_body(run)));
        if let Err(payload) = outcome {
            lock(&shared.panic).get_or_insert(payload);
        }
        if state.leave()
            && shared.caller_parked.0.load(Ordering::SeqCst)
            && let Some(caller) = caller
        {
            caller.unpark();
        }
    }
}

/// Runs a body with the mark that makes nested forks run inline, which an unwinding body must not leave behind.
fn call_body(body: impl FnOnce()) {
    struct Mark;
    impl Drop for Mark {
        fn drop(&mut self) {
            IN_BODY.set(false);
        }
    }
    IN_BODY.set(true);
    let _mark = Mark;
    body();
}

/// A poisoned lock only says that a body panicked, which `run` reports itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn team(n_threads: usize) -> Team {
        Team::new(NonZeroUsize::new(n_threads).expect("at least one")).expect("threads start")
    }

    #[test]
    fn every_chunk_runs_once_whatever_the_size_of_the_team() {
        for n_threads in [1, 2, 3, 8] {
            let team = team(n_threads);
            assert_eq!(team.n_threads(), n_threads);
            for n_chunks in [0, 1, 2, 3, 100, 1001] {
                let runs: Vec<AtomicU32> = (0..n_chunks).map(|_| AtomicU32::new(0)).collect();
                team.run(n_chunks, |worker| {
                    assert!(worker.index() < n_threads);
                    while let Some(chunk) = worker.claim() {
                        runs[chunk].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(
                    runs.iter().all(|n| n.load(Ordering::Relaxed) == 1),
                    "{n_threads} threads, {n_chunks} chunks"
                );
            }
        }
    }

    #[test]
    fn forks_follow_each_other_with_and_without_a_pause_long_enough_to_park() {
        let team = team(3);
        let total = AtomicUsize::new(0);
        for round in 0..2000 {
            if round % 100 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            team.run(7, |worker| {
                while let Some(chunk) = worker.claim() {
                    total.fetch_add(chunk, Ordering::Relaxed);
                }
            });
        }
        assert_eq!(total.into_inner(), 2000 * 21);
    }

    #[test]
    fn a_slow_worker_is_waited_for() {
        let team = team(2);
        let done = AtomicUsize::new(0);
        team.run(2, |worker| {
            while worker.claim().is_some() {
                std::thread::sleep(Duration::from_millis(if worker.index() == 0 {
                    1
                } else {
                    30
                }));
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        assert_eq!(done.into_inner(), 2);
    }

    #[test]
    fn a_fork_is_entered_once_per_worker_and_not_after_it_is_closed() {
        let state = State::new();
        assert_eq!(state.enter(7), None, "no fork yet");
        for fork in 1..=3 {
            state.open();
            assert_eq!(state.enter(fork - 1), Some(fork));
            assert_eq!(state.enter(fork), None, "the same worker again");
            assert_eq!(state.enter(0), Some(fork), "one that has slept");
            assert!(!state.leave(), "one is still inside");
            assert!(!state.is_empty());
            state.close();
            assert_eq!(state.enter(0), None, "too late");
            assert!(state.leave(), "the last one out of a closed fork");
            assert!(state.is_empty());
        }
        state.open();
        assert_eq!(state.enter(3), Some(4));
        assert!(!state.leave(), "nobody waits while it is open");
    }

    /// The worker stands still until the test lets it go, like one that the system does not schedule.
    #[test]
    fn a_worker_that_never_comes_is_not_waited_for_and_one_that_comes_late_joins_the_next_fork() {
        let shared = Arc::new(Shared::new(2));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let worker = Arc::clone(&shared);
        let team = Team {
            shared,
            workers: vec![std::thread::spawn(move || {
                released.recv().expect("the test lets it go");
                work(&worker, 1);
            })],
            running: Mutex::new(()),
        };
        // Dropped before the team, which waits for the worker: a failure here must not become a wait for ever.
        let release = release;
        for _ in 0..3 {
            let chunks = Mutex::new(Vec::new());
            team.run(5, |worker| {
                assert_eq!(worker.index(), 0, "nobody else is awake");
                while let Some(chunk) = worker.claim() {
                    lock(&chunks).push(chunk);
                }
            });
            assert_eq!(*lock(&chunks), [0, 1, 2, 3, 4]);
        }
        release.send(()).expect("it listens");
        let met = AtomicUsize::new(0);
        team.run(2, |worker| {
            met.fetch_add(1, Ordering::SeqCst);
            while met.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            while worker.claim().is_some() {}
        });
        assert_eq!(met.into_inner(), 2);
    }

    #[test]
    fn no_worker_is_inside_a_body_that_has_returned() {
        // More threads than most machines have to spare: some are always late.
        let team = team(8);
        let (present, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for round in 0..3000 {
            present.store(round, Ordering::SeqCst);
            let mine = [round; 3];
            team.run(3, |worker| {
                inside.fetch_add(1, Ordering::SeqCst);
                while let Some(chunk) = worker.claim() {
                    assert_eq!(mine[chunk], present.load(Ordering::SeqCst));
                }
                assert_eq!(mine[0], present.load(Ordering::SeqCst));
                inside.fetch_sub(1, Ordering::SeqCst);
            });
            assert_eq!(inside.load(Ordering::SeqCst), 0, "round {round}");
        }
    }

    #[test]
    fn what_workers_wrote_is_there_after_the_join() {
        let team = team(4);
        let mut values = vec![0usize; 64];
        for round in 1..1000 {
            let parts = crate::disjoint::Disjoint::new(&mut values);
            team.run(64, |worker| {
                while let Some(chunk) = worker.claim() {
                    // SAFETY: each chunk is claimed once.
                    unsafe { parts.part(chunk..chunk + 1)[0] += 1 };
                }
            });
            assert!(values.iter().all(|value| *value == round), "round {round}");
        }
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller_and_the_team_lives_on() {
        let team = team(4);
        for culprit in 0..4 {
            let met = AtomicUsize::new(0);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                team.run(4, |worker| {
                    // All four threads meet, so that each index is present.
                    met.fetch_add(1, Ordering::SeqCst);
                    while met.load(Ordering::SeqCst) < 4 {
                        std::thread::yield_now();
                    }
                    assert!(worker.index() != culprit, "thread {culprit} fails");
                });
            }));
            let payload = outcome.expect_err("the panic propagates");
            let text = payload
                .downcast_ref::<String>()
                .expect("a formatted message");
            assert!(text.contains(&format!("thread {culprit} fails")), "{text}");
        }
        let n = AtomicUsize::new(0);
        team.run(10, |worker| {
            while worker.claim().is_some() {
                n.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(n.into_inner(), 10);
    }

    #[test]
    fn a_fork_inside_a_body_runs_inline() {
        let team = team(2);
        let n = AtomicUsize::new(0);
        team.run(4, |worker| {
            while worker.claim().is_some() {
                team.run(5, |inner| {
                    while inner.claim().is_some() {
                        n.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(n.into_inner(), 20);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let team = team(2);
        let n = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        team.run(3, |worker| {
                            while worker.claim().is_some() {
                                n.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(n.into_inner(), 3 * 200 * 3);
    }
}
