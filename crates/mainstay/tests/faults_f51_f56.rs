//! F51 to F56 through the real gateway on real sockets, in the fast profile: clients that read
//! slowly, two sites that brown out together, a refused prefill, a site that flaps, a model that is
//! gone, and a wall clock that jumps.

mod bed;
#[path = "bed/told.rs"]
mod told;

use std::path::Path;
use std::time::{Duration, Instant};

use bed::client::{Ask, Mode, Reply};
use bed::{
    Bed, FALLBACK, Layout, MODES, PRIMARY, Place, SLACK, hung_up, normal, refused, whole, within,
};
use mainstay::faults::answer::answer_tokens;
use mainstay::faults::{Flap, Running};
use serde_json::Value;
use tokio::task::JoinHandle;
use told::{BOTH, facts, told as told_as};

const PROMPT: &str = "What does the tide bring? 潮水带来什么?";

const KIB: u64 = 1024;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn base(bed: &Bed) -> String {
    format!("{}/v1", bed.gateway.api)
}

fn ask_soon(bed: &Bed, ask: Ask) -> JoinHandle<Reply> {
    let base = base(bed);
    tokio::spawn(async move { ask.send(&base).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_a_slow_reader_gets_every_token_and_is_nobodys_fault() {
    tokio::join!(slow_reader("f51", 6000, 30), slow_reader("long-12000-1ms", 12_000, 12), unread());
}

/// Reads the answer of `model` at 1 KiB/s for `slow` seconds, then fast.
async fn slow_reader(model: &str, tokens: usize, slow: u64) {
    let steady = "long-300-10ms";
    let layout = Layout::new(Place::Equal, model, "ok")
        .more(&format!("[[model]]\nname = \"steady\"\nserved_by = [\"primary/{steady}\"]"));
    let bed = Bed::start(&layout).await;
    let other = Ask::chat("steady", "another").stream();
    bed.send(&other).await;
    let alone = median_gap(&bed.send(&other).await);
    let before = bed.gateway.memory();
    let ask = Ask::chat("chat", PROMPT).stream().reading_at(1024);
    let ask = ask.slow_for(Duration::from_secs(slow)).patient_for(Duration::from_secs(120));
    let reader = ask_soon(&bed, ask);
    // waits for: what lies between to fill up, as far as it may
    tokio::time::sleep(Duration::from_secs(slow - 5)).await;
    let beside = median_gap(&bed.send(&other).await);
    let grown = bed.gateway.memory().saturating_sub(before);
    let reply = reader.await.expect("no panic");
    assert_eq!(reply.text(), answer_tokens(PROMPT, tokens).concat());
    assert_eq!(reply.finish().as_deref(), Some("stop"));
    assert!(reply.terminated && reply.is_done());
    assert!(reply.took >= Duration::from_secs(slow));
    told_as(&bed, &reply, &["primary: whole"]).await;
    println!("{model}: gaps {alone:?} alone, {beside:?} beside it, memory + {grown} bytes");
    // A timer of the fault server is as fine as 1 ms.
    assert!(beside <= alone.mul_f64(1.05) + millis(1), "{alone:?} alone, {beside:?} beside");
    assert!(grown <= 256 * KIB + 1024 * KIB, "grew by {grown} bytes");
    bed.is_well().await;
}

fn median_gap(reply: &Reply) -> Duration {
    let mut gaps: Vec<Duration> =
        reply.events.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    gaps.sort_unstable();
    gaps[gaps.len() / 2]
}

/// A client that reads nothing at all is closed after a minute.
async fn unread() {
    let bed = Bed::start(&Layout::new(Place::Equal, "long-100000-0ms", "ok")).await;
    let host = bed.gateway.api.trim_start_matches("http://").parse().expect("an address");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
    let mut tcp = socket.connect(host).await.expect("connect");
    let body = Ask::chat("chat", PROMPT).stream().body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length";
    let request = format!("{head}: {}\r\n\r\n{body}", body.len());
    tokio::io::AsyncWriteExt::write_all(&mut tcp, request.as_bytes()).await.expect("send");
    let limit = Instant::now() + Duration::from_secs(70);
    while bed.faults.log(PRIMARY).first().is_none_or(|attempt| attempt.ended.is_none()) {
        assert!(Instant::now() < limit, "a client that reads nothing is kept");
        // waits for: the gateway to give up on its client
        tokio::time::sleep(millis(100)).await;
    }
    let minute = Duration::from_secs(60);
    hung_up(&bed.primary().await[0], minute - millis(500), minute + Duration::from_secs(4));
    bed.saw(1, 0);
    bed.is_well().await;
}

/// How long both upstreams took for an answer of the brown-out, on average.
fn usual(bed: &Bed) -> Duration {
    let logs = [PRIMARY, FALLBACK].map(|scope| bed.faults.log(scope)).concat();
    let served = logs.iter().filter(|attempt| attempt.ended == Some("served"));
    let late: Vec<u64> = served.rev().take(150).filter_map(|a| a.ended_after_ms).collect();
    Duration::from_millis(late.iter().sum::<u64>() / late.len() as u64)
}

async fn all_attempts(bed: &Bed) -> f64 {
    bed.gateway.metric("mainstay_upstream_attempts_total", &[]).await
}

/// Keys of three tiers, with the share of a second's requests that each sends.
const TIERS: [(&str, usize); 3] = [("enterprise", 8), ("pro", 12), ("free", 10)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f52_two_equals_that_brown_out_serve_the_top_tier_first_and_all_they_can() {
    let keys = TIERS.map(|(tier, _)| {
        let hash = mainstay::faults::answer::sha256_hex(tier);
        format!("[[key]]\nname = \"{tier}\"\ntier = \"{tier}\"\nhash = \"{hash}\"\n")
    });
    let bed = Bed::start(&Layout::new(Place::Equal, "f50", "ok").more(&keys.concat())).await;
    for scope in [PRIMARY, FALLBACK] {
        bed.faults.set(scope, "concurrent", "30");
        bed.faults.set(scope, "first_token_ms", "50");
        bed.faults.set(scope, "token_ms", "20");
    }
    offer(&bed, Duration::from_secs(4)).await;
    let before = all_attempts(&bed).await;
    for scope in [PRIMARY, FALLBACK] {
        bed.faults.set(scope, "concurrent", "12");
        bed.faults.set(scope, "first_token_factor", "5");
    }
    // Gets used to it for eight seconds, counted for fifteen.
    let early = offer(&bed, Duration::from_secs(8)).await;
    let late = offer(&bed, Duration::from_secs(15)).await;
    let attempts = all_attempts(&bed).await - before;
    let asked = early.len() + late.len();
    let served = |tier: &str| late.iter().filter(|(t, r)| *t == tier && r.status == 200).count();
    let of = |tier: &str| late.iter().filter(|(t, _)| *t == tier).count();
    let all: usize = TIERS.iter().map(|(tier, _)| served(tier)).sum();
    let able = 2.0 * 12.0 / usual(&bed).as_secs_f64() * 15.0;
    let mut refusals: Vec<Duration> =
        late.iter().filter(|(_, r)| r.status != 200).map(|(_, r)| r.took).collect();
    refusals.sort_unstable();
    println!(
        "served {all} of {asked}, able {able:.0}; {:?}; {:.3} attempts each; refused within {:?}",
        TIERS.map(|(tier, _)| (tier, served(tier), of(tier))),
        attempts / asked as f64,
        refusals.get(refusals.len() * 95 / 100),
    );
    for (tier, reply) in late.iter().filter(|(_, r)| r.status != 200) {
        refused(reply, 503, "overloaded");
        // Only the highest tier may wait for room, half a second.
        let wait = if *tier == "enterprise" { 500 } else { 100 };
        assert!(reply.took <= millis(wait) + SLACK, "{tier} waited {:?}", reply.took);
    }
    assert!(all as f64 >= 0.9 * able, "{all} served of {able:.0}");
    assert!(refusals.get(refusals.len() * 95 / 100).is_none_or(|took| *took <= millis(100)));
    // Two sites that both reach for more in the same millisecond refuse one of it now and then.
    assert!(served("enterprise") * 100 >= of("enterprise") * 95, "the top tier comes first");
    assert!(served("pro") * of("free") >= served("free") * of("pro"), "then the next");
    assert!(attempts <= 1.1 * asked as f64, "{attempts} attempts for {asked} requests");
    let said = bed.gateway.said();
    assert!(!said.contains(" went from "), "overload is no matter of health: {said}");
}

/// Offers a steady load of all tiers for so long, and waits for the replies.
async fn offer(bed: &Bed, time: Duration) -> Vec<(&'static str, Reply)> {
    let per_second: usize = TIERS.iter().map(|(_, count)| count).sum();
    let mut order: Vec<&str> =
        TIERS.iter().flat_map(|(tier, count)| std::iter::repeat_n(*tier, *count)).collect();
    // Interleaved, so that no tier comes in bursts.
    order.sort_by_key(|tier| tier.len());
    let order: Vec<&'static str> =
        (0..per_second).map(|n| name(order[n * 17 % per_second])).collect();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / per_second as u32);
    let started = Instant::now();
    let mut asked = Vec::new();
    for n in 0.. {
        beat.tick().await;
        if started.elapsed() >= time {
            break;
        }
        let tier = order[n % per_second];
        let ask = Ask::chat("chat", &format!("{PROMPT} {n}")).stream();
        asked.push((tier, ask_soon(bed, ask.header("authorization", &format!("Bearer {tier}")))));
    }
    let mut replies = Vec::new();
    for (tier, task) in asked {
        replies.push((tier, task.await.expect("no panic")));
    }
    replies
}

fn name(tier: &str) -> &'static str {
    TIERS.iter().find(|(name, _)| *name == tier).expect("a tier").0
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f54_a_site_that_flaps_is_soon_left_alone_and_nobody_notices() {
    let bed = Bed::start_with(async |faults: &Running| {
        Layout::new(Place::Equal, "f50", "ok").reached_at("primary", &faults.addresses.flap)
    })
    .await;
    bed.faults.flap(Flap { down_ms: 5000, up_ms: 5000 });
    let mut beat = tokio::time::interval(millis(50));
    let mut asked = Vec::new();
    for n in 0..2400 {
        beat.tick().await;
        let prompt = format!("{PROMPT} {n}");
        asked.push((prompt.clone(), ask_soon(&bed, Ask::chat("chat", &prompt).stream())));
    }
    let (mut extra, mut longest, mut slow) = (0, Duration::ZERO, 0);
    for (prompt, task) in asked {
        let reply = task.await.expect("no panic");
        whole(&reply, &prompt);
        let attempts: u32 =
            reply.header("x-mainstay-attempts").and_then(|text| text.parse().ok()).expect("it");
        assert!(attempts <= 2, "{attempts} attempts");
        extra += attempts - 1;
        longest = longest.max(reply.took);
        slow += usize::from(reply.took > 2 * normal());
    }
    let said = bed.gateway.said();
    let moves = said.matches("primary/f50 went from ").count();
    println!("2400 requests, {extra} second attempts, {moves} moves, longest {longest:?}");
    assert!(moves <= 6, "{moves} changes of health");
    assert!(slow <= 24, "{slow} of 2400 took longer than a cut and a resume");
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
    // and the epoch of a site that keeps nothing. None is compared with another machine's.
    let known = [
        "dialect/shape.rs",
        "policy.rs",
        "policy/journal.rs",
        "policy/store.rs",
        "run/door.rs",
        "run/home.rs",
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
        .map(|n| ask_soon(&bed, Ask::chat("chat", &format!("{PROMPT} {n}")).mode(MODES[n % 2])))
        .collect();
    let waits = ask_soon(&bed, Ask::chat("waits", PROMPT).stream());
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
        .map(|n| ask_soon(&bed, Ask::chat("paused", &format!("certified {n}")).stream()))
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
