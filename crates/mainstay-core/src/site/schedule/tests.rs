//! The scheduler by events and what follows from them.
