//! Memory for weights and cached rows, in pages as large as the system has.
//!
//! All weights are read for each token. In pages of 4 KiB the processor looks up hundreds of
//! thousands of addresses for that, and stops its own reading ahead at the end of each; in pages of
//! 2 MiB it does neither. Many matrices are smaller than such a page, so they lie side by side in
//! chunks. Where the system has no large pages, nothing but speed is lost.
#![allow(unsafe_code)]

use super::{Line, TILE};
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A large page of x86-64, and of ARM with small pages of 4 KiB.
const PAGE: usize = 2 << 20;

/// Address space taken at once; memory only as far as something is written there.
const CHUNK: usize = 64 << 20;

/// Where each thing begins: no line lies in two of the processor's.
const ALIGN: usize = align_of::<Line>();

/// Numbers that are zero at first.
pub struct Large<T: Plain> {
    at: *mut T,
    count: usize,
    /// What the numbers lie in.
    _chunk: Arc<Chunk>,
}

/// # Safety
/// Bytes of zero are a value, there is nothing to drop, and no alignment above [`ALIGN`].
pub unsafe trait Plain: Copy + Send + Sync {}
// SAFETY: a byte.
unsafe impl Plain for u8 {}
// SAFETY: bytes.
unsafe impl Plain for Line {}
// SAFETY: bytes.
unsafe impl Plain for [u8; TILE] {}
// SAFETY: whole numbers.
unsafe impl Plain for [u16; TILE] {}

// SAFETY: the numbers are owned: nobody else points at them, and chunks are only freed elsewhere.
unsafe impl<T: Plain> Send for Large<T> {}
// SAFETY: as above; only who has it alone can write.
unsafe impl<T: Plain> Sync for Large<T> {}

/// A stretch of memory, kept for those who point into it.
#[expect(dead_code)]
enum Chunk {
    Mapped(MmapMut),
    /// Where mapping fails, the allocator says what that means.
    Allocated(Vec<Line>),
}

/// The chunk that was begun last, while anything in it is in use.
struct Open {
    chunk: Weak<Chunk>,
    first: usize,
    end: usize,
}

static OPEN: Mutex<Open> = Mutex::new(Open { chunk: Weak::new(), first: 0, end: 0 });

impl<T: Plain> Large<T> {
    pub fn zeroed(count: usize) -> Large<T> {
        let bytes = count.checked_mul(size_of::<T>()).expect("matrices fit into memory");
        let (chunk, at) = take(bytes.next_multiple_of(ALIGN));
        Large { at: at as *mut T, count, _chunk: chunk }
    }
}

impl<T: Plain> Deref for Large<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `take` gave this stretch to nobody else, aligned and zeroed; the chunk lives.
        unsafe { std::slice::from_raw_parts(self.at, self.count) }
    }
}

impl<T: Plain> DerefMut for Large<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.count) }
    }
}

/// So many bytes, a multiple of [`ALIGN`], that were never given before, and where they lie.
fn take(bytes: usize) -> (Arc<Chunk>, usize) {
    if bytes > CHUNK / 2 {
        let (chunk, first) = Chunk::new(bytes);
        return (Arc::new(chunk), first);
    }
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(chunk) = open.chunk.upgrade()
        && open.end - open.first >= bytes
    {
        open.first += bytes;
        return (chunk, open.first - bytes);
    }
    let (chunk, first) = Chunk::new(CHUNK);
    let chunk = Arc::new(chunk);
    *open = Open { chunk: Arc::downgrade(&chunk), first: first + bytes, end: first + CHUNK };
    (chunk, first)
}

impl Chunk {
    /// With room for so many bytes, and where they begin.
    fn new(bytes: usize) -> (Chunk, usize) {
        match MmapMut::map_anon(bytes + PAGE) {
            Ok(mut map) => {
                // A wish: without it pages are small.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                let first = (map.as_mut_ptr() as usize).next_multiple_of(PAGE);
                (Chunk::Mapped(map), first)
            }
            Err(_) => {
                let mut lines = vec![Line([0; 64]); bytes / ALIGN];
                let first = lines.as_mut_ptr() as usize;
                (Chunk::Allocated(lines), first)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_zero_and_nobody_elses() {
        let mut all: Vec<Large<[u8; TILE]>> = (0..40).map(|at| Large::zeroed(at * 97)).collect();
        let large: Large<Line> = Large::zeroed(CHUNK / 64);
        for (at, numbers) in all.iter_mut().enumerate() {
            assert!(numbers.iter().all(|number| *number == [0; TILE]));
            numbers.fill([at as u8 + 1; TILE]);
        }
        for (at, numbers) in all.iter().enumerate() {
            assert_eq!(numbers.as_ptr() as usize % ALIGN, 0);
            assert!(numbers.iter().all(|number| *number == [at as u8 + 1; TILE]));
        }
        assert!(large.iter().all(|line| line.0 == [0; 64]));
    }
}
