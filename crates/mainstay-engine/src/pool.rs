//! Standing threads that share one piece of work at a time.
//!
//! Work comes in chunks. Each thread takes the next chunk when it is done with its last, so a
//! thread that the system took off its processor holds up one chunk, not an equal share of all.
//! Threads that find nothing spin for a moment (the next matrix of a pass comes within
//! microseconds), then park. Which thread computes a chunk changes no number: chunks write to
//! different places.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Waking a parked thread takes about as long; spinning longer would take processor time from the
/// gateway for nothing.
const SPIN: Duration = Duration::from_micros(20);

/// How many spins go between two looks at the clock, which costs as much as some of them.
const SPINS_PER_LOOK: u32 = 32;

type Job<'a> = dyn Fn(usize) + Sync + 'a;
type Panic = Box<dyn Any + Send>;

/// Some threads and the one that owns the pool.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Held while a job runs.
    turn: Mutex<()>,
}

struct Worker {
    handle: Option<JoinHandle<()>>,
    is_parked: Arc<AtomicBool>,
}

struct Shared {
    /// Number of the job in the upper half, chunks not yet taken in the lower.
    word: AtomicU64,
    /// Chunks not yet finished.
    unfinished: AtomicUsize,
    /// The job, while `unfinished` is above zero.
    job: UnsafeCell<Option<*const Job<'static>>>,
    /// Whom to wake when the last chunk is finished.
    owner: UnsafeCell<Option<Thread>>,
    owner_is_parked: AtomicBool,
    panic: Mutex<Option<Panic>>,
    is_stopped: AtomicBool,
}

// SAFETY: `job` and `owner` are written by `run` alone, under the lock `turn`, and only while
// `unfinished` is zero: then no thread holds a chunk, and only who holds a chunk reads them. The
// store of `word` makes the writes visible to whoever takes a chunk.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to something `Sync`, and is not used outside `run`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads`, of which one is whoever calls [`Pool::run`].
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            word: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            owner: UnsafeCell::new(None),
            owner_is_parked: AtomicBool::new(false),
            panic: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        });
        let worker = |_| {
            let (shared, is_parked) = (shared.clone(), Arc::new(AtomicBool::new(false)));
            let parked = is_parked.clone();
            let builder = thread::Builder::new().name("engine-pool".into());
            // Without the thread the pool is slower, not wrong.
            let handle = builder.spawn(move || shared.work(&parked)).ok()?;
            Some(Worker { handle: Some(handle), is_parked })
        };
        let workers = (1..threads.max(1)).filter_map(worker).collect();
        Pool { shared, workers, turn: Mutex::new(()) }
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once with each number below `chunks`, on whatever threads are free, and returns
    /// when all calls have. A panic in one of them comes out here, after the others are done.
    /// A job that itself calls `run` is alone with what it starts.
    pub fn run(&self, chunks: usize, job: &Job<'_>) {
        let turn = self.turn.try_lock();
        if chunks <= 1 || self.workers.is_empty() || turn.is_err() {
            return (0..chunks).for_each(job);
        }
        let chunks = u32::try_from(chunks).expect("a pass has fewer chunks than 2^32");
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed. Threads call the job only for chunks they took, and
        // `run` does not return before every chunk is finished.
        let erased = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        // SAFETY: no chunk is out (`unfinished` is zero between runs), so nobody reads these.
        unsafe {
            *shared.job.get() = Some(erased);
            *shared.owner.get() = Some(thread::current());
        }
        shared.unfinished.store(chunks as usize, Ordering::Relaxed);
        let number = (shared.word.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.word.store(number << 32 | u64::from(chunks), Ordering::SeqCst);
        self.wake();
        while let Some(chunk) = shared.take() {
            shared.call(chunk);
        }
        shared.wait_until_finished();
        let panic = shared.panic.lock().map_or(None, |mut panic| panic.take());
        drop(turn); // before unwinding, which would mark it as broken
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn wake(&self) {
        for worker in &self.workers {
            if worker.is_parked.swap(false, Ordering::SeqCst)
                && let Some(handle) = &worker.handle
            {
                handle.thread().unpark();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            if let Some(handle) = worker.handle.take() {
                handle.thread().unpark();
                // A thread of the pool has no panic of its own: jobs' are caught.
                let _ = handle.join();
            }
        }
    }
}

impl Shared {
    /// Takes a chunk of the present job, if one is left.
    fn take(&self) -> Option<usize> {
        let mut word = self.word.load(Ordering::SeqCst);
        while word as u32 > 0 {
            let next = word - 1;
            match self.word.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(next as u32 as usize),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Runs one chunk that was taken.
    fn call(&self, chunk: usize) {
        // SAFETY: the chunk taken is unfinished, so the job stands and its owner waits.
        let job = unsafe { (*self.job.get()).map(|job| &*job) };
        if let Some(job) = job
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(chunk)))
            && let Ok(mut first) = self.panic.lock()
        {
            first.get_or_insert(panic);
        }
        // SAFETY: still unfinished. Cloned first, because after the count falls to zero the owner
        // may write here again.
        let owner = unsafe { (*self.owner.get()).clone() };
        if self.unfinished.fetch_sub(1, Ordering::SeqCst) == 1
            && self.owner_is_parked.swap(false, Ordering::SeqCst)
            && let Some(owner) = owner
        {
            owner.unpark();
        }
    }

    fn wait_until_finished(&self) {
        let is_finished = || self.unfinished.load(Ordering::SeqCst) == 0;
        while !spin_until(is_finished) {
            self.owner_is_parked.store(true, Ordering::SeqCst);
            if !is_finished() {
                thread::park();
            }
            self.owner_is_parked.store(false, Ordering::SeqCst);
        }
    }

    /// The life of a thread of the pool.
    fn work(&self, is_parked: &AtomicBool) {
        let is_wanted = || {
            self.word.load(Ordering::SeqCst) as u32 > 0 || self.is_stopped.load(Ordering::SeqCst)
        };
        while !self.is_stopped.load(Ordering::SeqCst) {
            while let Some(chunk) = self.take() {
                self.call(chunk);
            }
            if !spin_until(is_wanted) {
                is_parked.store(true, Ordering::SeqCst);
                if !is_wanted() {
                    thread::park();
                }
                is_parked.store(false, Ordering::SeqCst);
            }
        }
    }
}

/// True as soon as `is_so`; false if it was not within [`SPIN`].
fn spin_until(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..SPINS_PER_LOOK {
            if is_so() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return is_so();
        }
    }
}

/// A slice that several chunks write at once, each to places of its own.
pub struct Shares<'a, T> {
    start: *mut T,
    length: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out disjoint parts only, as `part` demands, and `T` may be sent.
unsafe impl<T: Send> Sync for Shares<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shares<'_, T> {}

impl<'a, T> Shares<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Shares<'a, T> {
        let (start, length) = (slice.as_mut_ptr(), slice.len());
        Shares { start, length, slice: std::marker::PhantomData }
    }

    /// `length` numbers from `first` on.
    ///
    /// # Safety
    /// No other part that is still in use overlaps this one.
    #[allow(clippy::mut_from_ref)] // parts are disjoint by the caller's promise
    pub unsafe fn part(&self, first: usize, length: usize) -> &mut [T] {
        assert!(first <= self.length && length <= self.length - first);
        // SAFETY: inside the slice, as just checked; not aliased, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_run_once_whatever_the_threads() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for chunks in [0, 1, 2, 3, 50, 1000] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(chunks, &|chunk| {
                    counts[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_one_after_another_lose_no_chunk() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        for round in 0..20_000 {
            pool.run(2 + round % 7, &|chunk| {
                sum.fetch_add(chunk + 1, Ordering::Relaxed);
            });
        }
        let expected: usize = (0..20_000).map(|round| (1..=2 + round % 7).sum::<usize>()).sum();
        assert_eq!(sum.into_inner(), expected);
    }

    #[test]
    fn a_panic_in_a_chunk_comes_out_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        let done = AtomicUsize::new(0);
        let job = |chunk| {
            assert_ne!(chunk, 4, "on purpose");
            done.fetch_add(1, Ordering::Relaxed);
        };
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(9, &job))).is_err());
        assert_eq!(done.swap(0, Ordering::Relaxed), 8);
        pool.run(4, &job);
        assert_eq!(done.into_inner(), 4);
    }
}
