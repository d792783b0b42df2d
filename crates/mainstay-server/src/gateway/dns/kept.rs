//! The last set on disk, for the next start: a small JSON file with the names of gateways and
//! their weights. A name that is no longer listed is passed over.

use crate::gateway::dns::Target;
use crate::gateway::dns::publish::Set;
use mainstay_core::names::GatewayId;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Weights change every second; the file only has to be roughly right.
const PAUSE: Duration = Duration::from_secs(10);
/// Larger than any set; what is larger is another file.
const FILE_MAX: u64 = 1 << 20;

/// Gateways by name and their weights.
type Named = BTreeMap<String, u32>;

/// Reads the set at `path`; empty if there is none yet.
pub(super) fn load(path: &Path, targets: &[Target]) -> Result<Set, String> {
    let wrong =
        |what: String| format!("the kept answers in {} are not used: {what}", path.display());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Set::new()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    let named: Named = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let listed = targets.iter().enumerate();
    let weights = listed.filter_map(|(at, target)| {
        let weight = named.get(&target.gateway).copied().filter(|weight| *weight > 0)?;
        Some((GatewayId(at as u16), weight))
    });
    Ok(weights.collect())
}

/// Keeps sets, by a thread of its own.
#[derive(Debug)]
pub(super) struct Keeper {
    order: Arc<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Order {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    /// The newest set; older ones need no keeping.
    set: Option<Named>,
    stop: bool,
}

impl Keeper {
    pub(super) fn start(path: PathBuf) -> Keeper {
        let order = Arc::new(Order::default());
        let thread = std::thread::Builder::new().name(String::from("dns-kept"));
        let thread = thread.spawn({
            let order = order.clone();
            move || run(&path, &order)
        });
        if let Err(error) = &thread {
            tracing::warn!("answers to names are not kept on disk: {error}");
        }
        Keeper { order, thread: Mutex::new(thread.ok()) }
    }

    pub(super) fn keep(&self, set: Named) {
        lock(&self.order.wanted).set = Some(set);
        self.order.changed.notify_one();
    }

    /// Keeps what is not kept yet, and ends.
    pub(super) fn stop(&self) {
        lock(&self.order.wanted).stop = true;
        self.order.changed.notify_one();
        let thread = lock(&self.thread).take();
        // A panic in it was told when it happened.
        let _ = thread.map(JoinHandle::join);
    }
}

fn run(path: &Path, order: &Order) {
    let mut failed = false;
    let mut wanted = lock(&order.wanted);
    loop {
        let Some(set) = wanted.set.take() else {
            if wanted.stop {
                return;
            }
            wanted = order.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(wanted);
        let kept = write(path, &set);
        if let Err(error) = &kept
            && !failed
        {
            tracing::warn!("cannot keep answers to names in {}: {error}", path.display());
        }
        failed = kept.is_err();
        wanted = lock(&order.wanted);
        let pause = order.changed.wait_timeout_while(wanted, PAUSE, |wanted| !wanted.stop);
        (wanted, _) = pause.unwrap_or_else(PoisonError::into_inner);
    }
}

/// Whole or not at all: another name first.
fn write(path: &Path, set: &Named) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, serde_json::to_vec(set)?)?;
    std::fs::rename(&beside, path)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target { gateway: name.into(), addresses: Vec::new(), region: None }
    }

    #[test]
    fn a_set_outlives_its_process_by_name_and_a_spoilt_file_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("answers.json");
        let targets = [target("b"), target("a")];
        assert_eq!(load(&path, &targets), Ok(Set::new()), "no file yet");
        let keeper = Keeper::start(path.clone());
        keeper.keep(Named::from([("a".into(), 100), ("gone".into(), 50)]));
        keeper.stop();
        assert_eq!(load(&path, &targets), Ok(vec![(GatewayId(1), 100)]));
        std::fs::write(&path, "{").expect("write");
        assert!(load(&path, &targets).expect_err("spoilt").contains("are not used"));
    }
}
