//! A map by the number of a worker: numbers are small and given in turn, so that finding one is
//! looking at its place. What is asked of it is what is asked of an ordered map.

use crate::names::WorkerId;
use alloc::vec::Vec;
use core::ops::RangeFrom;

/// The map.
#[derive(Clone, Debug)]
pub struct ById<T> {
    places: Vec<Option<T>>,
    count: usize,
}

impl<T> Default for ById<T> {
    fn default() -> ById<T> {
        ById { places: Vec::new(), count: 0 }
    }
}

impl<T> ById<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The one of this number.
    pub fn get(&self, id: &WorkerId) -> Option<&T> {
        self.places.get(usize::from(id.0))?.as_ref()
    }

    /// See `get`.
    pub fn get_mut(&mut self, id: &WorkerId) -> Option<&mut T> {
        self.places.get_mut(usize::from(id.0))?.as_mut()
    }

    /// Keeps it; the one that was there before.
    pub fn insert(&mut self, id: WorkerId, one: T) -> Option<T> {
        let at = usize::from(id.0);
        if at >= self.places.len() {
            self.places.resize_with(at + 1, || None);
        }
        let before = self.places[at].replace(one);
        self.count += usize::from(before.is_none());
        before
    }

    /// Takes it out.
    pub fn remove(&mut self, id: &WorkerId) -> Option<T> {
        let one = self.places.get_mut(usize::from(id.0))?.take();
        self.count -= usize::from(one.is_some());
        one
    }

    /// All, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &T)> {
        self.range(WorkerId(0)..)
    }

    /// See `iter`.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut T)> {
        let all = self.places.iter_mut().enumerate();
        all.filter_map(|(at, one)| Some((WorkerId(at as u16), one.as_mut()?)))
    }

    /// Those from a number on.
    pub fn range(&self, from: RangeFrom<WorkerId>) -> impl Iterator<Item = (WorkerId, &T)> {
        let from = usize::from(from.start.0).min(self.places.len());
        let all = self.places[from..].iter().zip(from..);
        all.filter_map(|(one, at)| Some((WorkerId(at as u16), one.as_ref()?)))
    }

    /// See `iter`.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// Their numbers.
    pub fn keys(&self) -> impl Iterator<Item = WorkerId> {
        self.iter().map(|(id, _)| id)
    }

    /// The last number.
    pub fn last(&self) -> Option<WorkerId> {
        let at = self.places.iter().rposition(Option::is_some)?;
        Some(WorkerId(at as u16))
    }
}
