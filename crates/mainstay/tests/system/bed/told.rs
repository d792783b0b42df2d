//! What the gateway tells of itself: the attempts of a request with their reasons, and what its
//! process weighs. Also the loop over arrangements that most rows share.

use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::gateway::Gateway;
use crate::bed::{Bed, Layout, MODES, Place, whole};

/// Where the next attempt may go: both arrangements that a row without a mark holds in.
pub const BOTH: [Place; 2] = [Place::Equal, Place::Substitute];
/// With nowhere else to go, too.
pub const ALL: [Place; 3] = [Place::Equal, Place::Substitute, Place::Alone];

/// Asks once in each of `places` and both modes, each time before a fresh gateway, which must be
/// well afterwards.
pub async fn each(
    places: &[Place],
    (primary, prompt): (&str, &str),
    check: impl AsyncFn(&Bed, &Reply, Place, Mode),
) {
    for place in places {
        for mode in MODES {
            let bed = Bed::start(&Layout::new(*place, primary, "ok")).await;
            let reply = bed.ask(mode, prompt).await;
            check(&bed, &reply, *place, mode).await;
            bed.is_well().await;
        }
    }
}

/// The attempts of a request in order, as `primary: cut (transient)` or `fallback: whole`.
pub async fn attempts(bed: &Bed, reply: &Reply) -> Vec<String> {
    let facts = facts(bed, reply).await;
    facts.iter().filter_map(|(kind, text)| attempt(kind, text)).collect()
}

/// Asserts which attempts a request made, with class and reason.
pub async fn told(bed: &Bed, reply: &Reply, expected: &[&str]) {
    let said = attempts(bed, reply).await;
    assert_eq!(said, expected, "{:#?}", facts(bed, reply).await);
}

/// Kind and sentence of each fact of a request, once it is closed.
pub async fn facts(bed: &Bed, reply: &Reply) -> Vec<(String, String)> {
    let limit = Instant::now() + Duration::from_secs(3);
    loop {
        let chain = bed.explain(reply).await;
        let facts: Vec<(String, String)> = chain["facts"]
            .as_array()
            .expect("facts")
            .iter()
            .map(|fact| {
                let text = |key: &str| fact[key].as_str().expect("text").to_owned();
                (text("fact"), text("text"))
            })
            .collect();
        if facts.iter().any(|(kind, _)| kind == "closed") {
            return facts;
        }
        assert!(Instant::now() < limit, "not closed: {facts:#?}");
        // waits for: the gateway to close the request whose last byte we have
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn attempt(kind: &str, text: &str) -> Option<String> {
    match kind {
        "attempt_failed" => {
            let (site, rest) = text.split_once(" failed at ")?.1.split_once('/')?;
            let what = rest.split_once(": ")?.1.rsplit_once(", ")?.0;
            Some(format!("{site}: {}", what.replace("its reply or connection said so", "reply")))
        }
        "attempt_whole" => {
            let (site, _) = text.split_once(" whole at ")?.1.split_once('/')?;
            Some(format!("{site}: whole"))
        }
        "attempt_left" => {
            let (site, _) = text.split_once(" left at ")?.1.split_once('/')?;
            Some(format!("{site}: left"))
        }
        _ => None,
    }
}

/// Doors of the gateway: connections are handed to them in turn, and each has its own pool.
pub fn doors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Asserts that `chat` answers whole, where the primary's host cannot be asked for `healthy`.
pub async fn still_answers(bed: &Bed) {
    let prompt = "still there?";
    whole(&bed.send(&Ask::chat("chat", prompt).stream()).await, prompt);
    bed.primary().await;
    bed.fallback().await;
}

/// Attempts that the gateway counted at a site, whether or not a byte arrived there.
pub async fn counted_at(gateway: &Gateway, site: &str) -> f64 {
    let label = format!("site=\"{site}\"");
    gateway.metric("mainstay_upstream_attempts_total", &[&label]).await
}

/// Forgets the highest memory use so far; what is in use now, as `peak` counts it.
pub fn forget_peak(gateway: &Gateway) -> u64 {
    let file = format!("/proc/{}/clear_refs", gateway.id());
    std::fs::write(file, "5").expect("reset the peak");
    peak(gateway)
}

/// The highest memory use since `forget_peak`, in bytes. Parts of files in memory count too, which
/// they do not in `Gateway::memory`.
pub fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id()));
    let status = status.expect("read from /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// Asserts that the gateway has at most `most` descriptors open within two seconds.
pub async fn closes_to(gateway: &Gateway, most: usize) {
    let limit = Instant::now() + Duration::from_secs(2);
    while gateway.open_files() > most {
        let open = gateway.open_files();
        assert!(Instant::now() < limit, "{open} descriptors are open: {:?}", list(gateway));
        // waits for: connections given up to be closed
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn list(gateway: &Gateway) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", gateway.id())).expect("descriptors");
    folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}
