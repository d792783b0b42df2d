//! F53, F55 and F56 through the real gateway on real sockets, in the fast profile: a refused
//! prefill, a model that is gone, and a wall clock that jumps. F51, F52 and F54 need a machine that
//! is quiet: `tests/load`.

use std::path::Path;
use std::time::Duration;

use crate::bed::client::{Ask, Mode};
use crate::bed::told::{self, BOTH, facts, told as told_as};
use crate::bed::{Bed, Layout, MODES, PRIMARY, Place, millis, normal, refused, whole, within};
use mainstay::faults::Running;
use serde_json::Value;

const PROMPT: &str = "What does the tide bring? 潮水带来什么?";

#[tokio::test]
async fn f53_a_refused_prefill_is_followed_by_regeneration_and_remembered() {
    for place in BOTH {
        for mode in MODES {
            // A stall is never resumed at the same site, so the second attempt is at the fallback.
            let layout = Layout::new(place, "f09", "f53");
            let bed = Bed::start(&layout.declaring("fallback", "f53", "continue = true")).await;
            let reply = bed.ask(mode, PROMPT).await;
            whole(&reply, PROMPT);
            within(&reply, Duration::from_secs(1) + 2 * normal() + Duration::from_secs(2));
            bed.saw(1, 2);
            let (stalled, invalid) = ("primary: stalled (dead)", "fallback: reply (client_fault");
            let said = told::attempts(&bed, &reply).await;
            assert!(said[0] == stalled && said[1].starts_with(invalid), "{said:?}");
            assert_eq!(said[2], "fallback: whole");
            let fallback = bed.fallback().await;
            assert!(fallback[0].prefix_bytes > 0 && fallback[1].prefix_bytes == 0);
            // Off for an hour: the next broken answer is not asked for in this way again.
            let again = bed.ask(mode, "another answer").await;
            whole(&again, "another answer");
            let fallback = bed.fallback().await;
            assert!(fallback[2..].iter().all(|attempt| attempt.prefix_bytes == 0));
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f53_where_no_attempt_is_left_the_cut_is_the_error() {
    for mode in MODES {
        let layout = Layout::new(Place::Substitute, "f08", "f53");
        let bed = Bed::start(&layout.declaring("fallback", "f53", "continue = true")).await;
        let reply = bed.ask(mode, PROMPT).await;
        assert_eq!(reply.finish(), None);
        let message = reply.error()["message"].to_string();
        assert!(message.contains("primary: cut off") && !message.contains("prefill"), "{message}");
        assert_eq!(reply.status, if mode == Mode::Stream { 200 } else { 502 });
        bed.saw(2, 1);
        bed.is_well().await;
    }
}

#[tokio::test]
async fn f55_a_model_that_is_gone_is_left_out_and_the_nearest_name_is_told() {
    for place in BOTH {
        for mode in MODES {
            let layout = Layout::new(place, "ok-nativ", "ok").limit("probe_billing = \"3s\"");
            let bed = Bed::start(&layout).await;
            let reply = bed.ask(mode, PROMPT).await;
            whole(&reply, PROMPT);
            within(&reply, normal() + millis(100));
            told_as(&bed, &reply, &["primary: reply (dead/model)", "fallback: whole"]).await;
            for n in 0..3 {
                let prompt = format!("again {n}");
                whole(&bed.ask(mode, &prompt).await, &prompt);
            }
            bed.saw(1, 4);
            // Only that model: the primary's others are asked as ever.
            bed.is_well().await;
            let alarm = "has no model 'ok-nativ'; the nearest name on offer is 'ok-native'";
            let said = bed.gateway.said();
            assert_eq!(said.matches(alarm).count(), 1, "{said}");
            // waits for: the time of one probe
            tokio::time::sleep(millis(3100)).await;
            for n in 0..3 {
                let prompt = format!("later {n}");
                whole(&bed.ask(mode, &prompt).await, &prompt);
            }
            bed.saw(2, 7);
        }
    }
}

#[tokio::test]
async fn f55_an_invalid_model_is_no_matter_of_our_key() {
    for place in BOTH {
        for mode in MODES {
            let layout = Layout::new(place, "f55b", "ok").speaking("primary", "qianfan");
            let bed = Bed::start(&layout).await;
            let reply = bed.ask(mode, PROMPT).await;
            whole(&reply, PROMPT);
            told_as(&bed, &reply, &["primary: reply (dead/model)", "fallback: whole"]).await;
            bed.saw(1, 1);
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f55_a_name_unknown_to_us_is_refused_without_an_attempt() {
    let bed = Bed::start(&Layout::new(Place::Equal, "f50", "ok")).await;
    for mode in MODES {
        let reply = bed.send(&Ask::chat("chatt", PROMPT).mode(mode)).await;
        refused(&reply, 404, "model_not_found");
        assert!(reply.error()["message"].to_string().contains("did you mean 'chat'?"));
        assert_eq!(reply.error()["param"], Value::from("model"));
    }
    bed.saw(0, 0);
    bed.is_well().await;
}

#[test]
fn f56_the_wall_clock_is_read_only_for_dates_that_people_read() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-server/src");
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-core/src");
    let mut readers = Vec::new();
    for root in [server, core] {
        readers_of_the_clock(&root, &root, &mut readers);
    }
    readers.sort();
    // `created` in an answer of ours, and in the list of models. Then what must go on where the
    // last process left off: numbers of orders, how long ago they were kept and who gave them when,
    // and the epoch of a site that keeps nothing; dates on the status page; and those of rows of
    // the ledger, with the hours, days and months that callers pay by; and the dates on which keys
    // end. None is compared with another machine's.
    let known = [
        "dialect/shape.rs",
        "ledger.rs",
        "policy.rs",
        "policy/journal.rs",
        "policy/store.rs",
        "run/door.rs",
        "run/home.rs",
        "setup/terms.rs",
        "status/dates.rs",
    ];
    assert_eq!(readers, known);
}

fn readers_of_the_clock(root: &Path, folder: &Path, readers: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            readers_of_the_clock(root, &path, readers);
        } else if std::fs::read_to_string(&path).expect("text").contains("SystemTime::now") {
            let inside = path.strip_prefix(root).expect("below it");
            readers.push(inside.to_string_lossy().replace('\\', "/"));
        }
    }
}

/// A wall clock that can be moved: a library that is loaded before the C library's own, and adds
/// to the time what stands in a file.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile int64_t *offset;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    void *at = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) offset = at;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int result = syscall(SYS_clock_gettime, id, t);
    if (result == 0 && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = t->tv_nsec + *offset % 1000000000;
        t->tv_sec += *offset / 1000000000 + nanos / 1000000000;
        t->tv_nsec = nanos % 1000000000;
        if (t->tv_nsec < 0) { t->tv_nsec += 1000000000; t->tv_sec -= 1; }
    }
    return result;
}
"#;

/// Sets the gateway's wall clock forward by so many milliseconds.
fn jump(file: &Path, millis: i64) {
    use std::io::{Seek, Write};
    let mut open = std::fs::OpenOptions::new().write(true).open(file).expect("open");
    open.rewind().expect("seek");
    open.write_all(&(millis * 1_000_000).to_ne_bytes()).expect("write");
}

const DAY: i64 = 24 * 3600 * 1000;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn f56_a_clock_that_jumps_changes_nothing_but_certificates_and_they_say_so() {
    let folder = tempfile::tempdir().expect("a directory");
    let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
    let offset = folder.path().join("offset");
    std::fs::write(&source, CLOCK).expect("write");
    std::fs::write(&offset, [0; 8]).expect("write");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
    assert!(cc.status().expect("a C compiler").success());
    let environment = [("LD_PRELOAD", library.as_path()), ("CLOCK_OFFSET", offset.as_path())];
    let bed = Bed::start_in(&environment, async |faults: &Running| {
        Layout::new(Place::Equal, "long-60-50ms", "ok")
            .more(
                "[[model]]\nname = \"waits\"\nserved_by = [\"primary/f01\"]\n\
             [[model]]\nname = \"paused\"\nserved_by = [\"primary/f26b\", \"fallback/ok\"]",
            )
            .site_line(
                "fallback",
                &format!("ca_file = \"{}\"", faults.addresses.ca_pem_file.display()),
            )
            .reached_at("fallback", &faults.addresses.tls_good)
    })
    .await;
    whole(&bed.send(&Ask::chat("paused", PROMPT).stream()).await, PROMPT);
    let streams: Vec<_> = (0..20)
        .map(|n| bed.ask_soon(Ask::chat("chat", &format!("{PROMPT} {n}")).mode(MODES[n % 2])))
        .collect();
    let waits = bed.ask_soon(Ask::chat("waits", PROMPT).stream());
    for time in [0, 3_600_000, -3_600_000, -1000, 400 * DAY, 0] {
        jump(&offset, time);
        // waits for: decisions at this time
        tokio::time::sleep(millis(300)).await;
    }
    for drift in 0..150 {
        jump(&offset, drift);
        // waits for: 20 ms in which this clock goes on by 21
        tokio::time::sleep(millis(20)).await;
    }
    for (n, task) in streams.into_iter().enumerate() {
        let reply = task.await.expect("no panic");
        whole(&reply, &format!("{PROMPT} {n}"));
        told_as(&bed, &reply, &["primary: whole"]).await;
    }
    let waited = waits.await.expect("no panic");
    whole(&waited, PROMPT);
    assert!(waited.took >= Duration::from_secs(2));
    within(&waited, millis(2200) + normal());
    // The 12 s (60 s, divided) for which a site asked to be left alone are not over.
    let paused = bed.send(&Ask::chat("paused", "and now?").stream()).await;
    told_as(&bed, &paused, &["fallback: whole"]).await;
    let seen = bed.faults.log(PRIMARY).iter().filter(|a| a.model == "f26b").count();
    assert_eq!(seen, 1);
    // Certificates care, in words, and only while the clock is wrong.
    jump(&offset, 400 * DAY);
    let asked: Vec<_> = (0..4)
        .map(|n| bed.ask_soon(Ask::chat("paused", &format!("certified {n}")).stream()))
        .collect();
    for task in asked {
        let _ = task.await.expect("no panic");
    }
    let said = bed.gateway.said();
    assert!(said.contains("days ago by this machine's clock"), "{said}");
    assert!(!said.contains(" went from "), "{said}");
    jump(&offset, 0);
    whole(&bed.send(&Ask::chat("paused", "right again").stream()).await, "right again");
    let facts = facts(&bed, &waited).await;
    assert!(facts.iter().any(|(kind, _)| kind == "waiting"), "{facts:?}");
}
