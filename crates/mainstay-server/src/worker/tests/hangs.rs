//! Steps that come to no end.

use super::*;
use crate::worker::steps::Step;
use mainstay_core::names::{ErrorClass, Scope};
use mainstay_core::worker::HUNG_MAX;
use mainstay_engine::{Engine, Progress};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel};

/// Steps of which so many hang, each until the sender is dropped; and how many did.
struct Hook {
    left: AtomicUsize,
    hung: AtomicUsize,
    gate: Mutex<std::sync::mpsc::Receiver<()>>,
}

fn hook(left: usize) -> (Sender<()>, Arc<Hook>) {
    let (release, gate) = channel();
    let (left, hung) = (AtomicUsize::new(left), AtomicUsize::new(0));
    (release, Arc::new(Hook { left, hung, gate: Mutex::new(gate) }))
}

fn step(hook: &Arc<Hook>) -> Step {
    let hook = hook.clone();
    let one_less = |left: usize| left.checked_sub(1);
    Arc::new(move |engine: &mut Engine, out: &mut Vec<Progress>| {
        if hook.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            hook.hung.fetch_add(1, Ordering::SeqCst);
            let _ = hook.gate.lock().map(|gate| gate.recv());
        }
        engine.step(out);
    })
}

/// A step is seen to hang when it says so itself, not after a time.
fn steps(hook: &Arc<Hook>) -> Steps {
    let seen = hook.clone();
    let told = AtomicUsize::new(0);
    let hangs = move |_| {
        let hung = seen.hung.load(Ordering::SeqCst);
        told.swap(hung, Ordering::SeqCst) != hung
    };
    Steps::new(step(hook), Box::new(hangs))
}

/// A worker with such steps, and how often its model was loaded.
fn hanging(directory: &TempDir, hook: &Arc<Hook>) -> (Worker, Arc<AtomicUsize>) {
    let around = Surroundings {
        name: "tiny".into(),
        is_builtin: false,
        outlook: Some(Box::new(|_| outlook())),
        url: None,
        drafts: None,
    };
    let (load, loaded) = (loads(directory), Arc::new(AtomicUsize::new(0)));
    let count = loaded.clone();
    let loader: Loader = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        load()
    });
    (Worker::spawn(around, Loading::new(loader), steps(hook)).unwrap(), loaded)
}

fn by_name() -> Order {
    Order { stands_in: false, ..order("hello") }
}

async fn failure(worker: &Worker) -> mainstay_core::names::Failure {
    let told = listen(worker.desk().place(by_name()).unwrap()).await;
    let Some(Said::Failed(failure)) = told.end else { panic!("{:?}", told.end) };
    failure
}

#[tokio::test]
async fn a_step_that_hangs_costs_its_requests_and_the_engine_goes_on_with_the_same_weights() {
    let directory = tiny();
    let quiet = worker(false, loads(&directory));
    let expected = listen(quiet.desk().place(by_name()).unwrap()).await;
    let (release, hook) = hook(1);
    let (worker, loaded) = hanging(&directory, &hook);
    let failure = failure(&worker).await;
    assert_eq!(failure.class, ErrorClass::Transient);
    assert!(failure.message.contains("hung") && failure.message.contains("try again"));
    let again = listen(worker.desk().place(by_name()).unwrap()).await;
    assert_eq!((again.text, again.end), (expected.text, expected.end));
    assert_eq!(loaded.load(Ordering::SeqCst), 1);
    drop(release);
    quiet.shutdown().await;
    worker.shutdown().await;
}

#[tokio::test]
async fn after_too_many_steps_that_hang_nothing_is_begun_and_the_error_says_what_to_do() {
    let directory = tiny();
    let (release, hook) = hook(usize::MAX);
    let (worker, _) = hanging(&directory, &hook);
    for _ in 0..=HUNG_MAX {
        assert!(failure(&worker).await.message.contains("hung"));
    }
    let last = failure(&worker).await;
    assert_eq!(last.class, ErrorClass::Dead(Scope::Model));
    assert!(last.message.contains("restart this process"), "{}", last.message);
    assert_eq!(hook.hung.load(Ordering::SeqCst), HUNG_MAX + 1);
    drop(release);
    worker.shutdown().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_step_that_hangs() {
    let directory = tiny();
    let (release, hook) = hook(1);
    let around = Surroundings {
        name: "tiny".into(),
        is_builtin: false,
        outlook: Some(Box::new(|_| outlook())),
        url: None,
        drafts: None,
    };
    let steps = Steps::new(step(&hook), Box::new(|_| false));
    let worker = Worker::spawn(around, Loading::new(loads(&directory)), steps).unwrap();
    let said = worker.desk().place(by_name()).unwrap();
    while hook.hung.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await;
    assert!(matches!(listen(said).await.end, Some(Said::Failed(_)) | None));
    drop(release);
}
