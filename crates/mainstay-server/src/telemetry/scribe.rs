//! Writes bytes from a thread of its own, in blocks.
//!
//! Whoever logs appends to a buffer and goes on. The thread is woken by the first line after a
//! silence, gathers what follows for a few milliseconds, and writes it all at once; so a busy
//! gateway wakes it a hundred times a second, not once a line. What does not fit is dropped and
//! counted.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait: about 15,000 lines.
const WAITING_MAX: usize = 3 << 20;
/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(8);

/// The writing thread. What was written to it is written on when this is dropped.
pub(super) struct Scribe {
    desk: Desk,
    thread: Option<JoinHandle<()>>,
}

/// Where lines are handed in. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<(Mutex<Waiting>, Condvar)>);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: usize,
    ends: bool,
}

impl Scribe {
    /// A scribe that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> std::io::Result<Scribe> {
        let desk = Desk::default();
        let thread = std::thread::Builder::new().name("log".into()).spawn({
            let desk = desk.clone();
            move || desk.write_on(out)
        })?;
        Ok(Scribe { desk, thread: Some(thread) })
    }

    /// Where lines are handed in.
    pub(super) fn desk(&self) -> Desk {
        self.desk.clone()
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.desk.change(|waiting| waiting.ends = true);
        if let Some(thread) = self.thread.take() {
            // A panic in it has nowhere to be told.
            let _ = thread.join();
        }
    }
}

impl Desk {
    /// Lines that found no room.
    pub(super) fn dropped(&self) -> usize {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let (waiting, wake) = &*self.0;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.bytes.is_empty();
        change(&mut waiting);
        if was_empty {
            wake.notify_one();
        }
    }

    fn write_on(&self, mut out: impl Write) {
        let (waiting, wake) = &*self.0;
        let mut taken = Vec::new();
        loop {
            let guard = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |w: &mut Waiting| w.bytes.is_empty() && !w.ends;
            let guard = wake.wait_while(guard, idle).unwrap_or_else(PoisonError::into_inner);
            let ends = guard.ends;
            drop(guard);
            if !ends {
                std::thread::sleep(GATHER);
            }
            let mut guard = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut guard.bytes, &mut taken);
            drop(guard);
            // A log that cannot be written must not stop what it tells of.
            let _ = out.write_all(&taken).and_then(|()| out.flush());
            if ends {
                return;
            }
            taken.clear();
        }
    }
}

impl Write for Desk {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.change(|waiting| match waiting.bytes.len() + line.len() > WAITING_MAX {
            true => waiting.dropped += 1,
            false => waiting.bytes.extend_from_slice(line),
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Desk {
    type Writer = Desk;

    fn make_writer(&'a self) -> Desk {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sent(mpsc::Sender<Vec<u8>>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_in_order_before_the_scribe_is_gone() {
        let (sender, seen) = mpsc::channel();
        let scribe = Scribe::start(Sent(sender)).unwrap();
        let mut desk = scribe.desk();
        let lines: Vec<String> = (0..1000).map(|n| format!("line {n}\n")).collect();
        lines.iter().for_each(|line| desk.write_all(line.as_bytes()).unwrap());
        drop(scribe);
        let written: Vec<u8> = seen.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), lines.concat());
        assert_eq!(desk.dropped(), 0);
    }

    #[test]
    fn lines_that_find_no_room_are_counted() {
        let mut desk = Desk::default();
        let line = vec![b'x'; WAITING_MAX / 2 + 1];
        desk.write_all(&line).unwrap();
        desk.write_all(&line).unwrap();
        assert_eq!(desk.dropped(), 1);
    }
}
