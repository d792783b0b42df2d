//! The embedded engine's thread, and how an attempt talks to it.
