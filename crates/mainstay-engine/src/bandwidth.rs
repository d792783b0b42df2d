//! How fast this machine's memory is read, which bounds how fast one answer alone can be written:
//! each of its tokens reads the weights once.

use std::time::Instant;

/// Far more than any cache of a processor holds.
const READ: usize = 256 << 20;
/// The best of so many readings counts: whoever disturbs one only makes it slower.
const READINGS: usize = 5;

/// Bytes a second that so many threads read together. Takes about a second.
pub fn measure(threads: usize) -> f64 {
    let words = vec![1u64; READ / 8];
    let part = words.len().div_ceil(threads.max(1));
    let read = || {
        let began = Instant::now();
        let sum: u64 = std::thread::scope(|scope| {
            let add = |part: &[u64]| part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
            let parts: Vec<_> =
                words.chunks(part).map(|part| scope.spawn(move || add(part))).collect();
            parts.into_iter().map(|part| part.join().unwrap_or(0)).sum()
        });
        let took = began.elapsed().as_secs_f64();
        std::hint::black_box(sum);
        READ as f64 / took
    };
    (0..READINGS).map(|_| read()).fold(0.0, f64::max)
}
