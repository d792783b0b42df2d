//! Numbers that begin where a line of the processor's memory does: a register that is loaded from
//! there lies in one line, and of two the load takes twice as long.

use std::ops::{Deref, DerefMut};

/// Bytes of a line, and of the widest register.
const LINE: usize = 64;

/// So many numbers, zero at first.
pub struct Lined<T> {
    all: Vec<T>,
    first: usize,
    count: usize,
}

impl<T: Copy + Default> Lined<T> {
    pub fn zeroed(count: usize) -> Lined<T> {
        let all = vec![T::default(); count + LINE / size_of::<T>()];
        let first = all.as_ptr().align_offset(LINE).min(all.len() - count);
        Lined { all, first, count }
    }
}

impl<T> Deref for Lined<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.all[self.first..][..self.count]
    }
}

impl<T> DerefMut for Lined<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.first..][..self.count]
    }
}
