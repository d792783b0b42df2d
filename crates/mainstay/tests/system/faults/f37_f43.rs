//! F37 to F43 through the real gateway on real sockets, in the fast profile: streams without an
//! end, replies too big, slow heads, and sites that cannot be reached: refused, without a name,
//! without a certificate to trust, or ended by HTTP/2 frames.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bed::client::{Ask, Mode, Reply};
use crate::bed::told::{
    self, ALL, BOTH, attempts, closes_to, counted_at, doors, each, forget_peak, peak, still_answers,
};
use crate::bed::{
    Bed, CLOSING, Layout, MODES, Place, SLACK, broken_off, gap, hung_up, millis, normal, ours,
    refused, theirs, whole, within,
};
use mainstay::faults::{Running, answer_text};
use serde_json::json;

const PROMPT: &str = "How does one leave a harbour? 如何离港?";

/// The first-token limit without samples, and the connect limit.
fn first_token() -> Duration {
    ours(10.0)
}

fn connect() -> Duration {
    ours(2.0)
}

const MIB: u64 = 1024 * 1024;

async fn told_as(bed: &Bed, reply: &Reply, expected: &[&str]) {
    told::told(bed, reply, expected).await;
}

#[tokio::test]
async fn f37a_tokens_past_the_limit_are_not_relayed_and_the_stream_is_closed() {
    for place in ALL {
        for mode in MODES {
            let bed = Bed::start(&Layout::new(place, "f37a", "ok")).await;
            let ask = Ask::chat("chat", PROMPT).mode(mode).with("max_tokens", json!(20));
            let reply = bed.send(&ask).await;
            assert_eq!(reply.text(), answer_text(PROMPT)[..20].concat());
            assert_eq!(reply.finish().as_deref(), Some("length"));
            assert_eq!(reply.usage()["completion_tokens"], json!(20));
            assert!(reply.terminated);
            let said = theirs(0.36, 0.11);
            within(&reply, said + CLOSING);
            hung_up(&bed.primary().await[0], said - millis(20), said + CLOSING);
            bed.saw(1, 0);
            told_as(&bed, &reply, &["primary: whole"]).await;
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f37b_comments_after_the_finish_reason_are_not_waited_out() {
    each(&ALL, ("f37b", PROMPT), async |bed, reply, _, _| {
        whole(reply, PROMPT);
        within(reply, normal() + CLOSING);
        hung_up(&bed.primary().await[0], millis(200), normal() + CLOSING);
        bed.saw(1, 0);
        told_as(bed, reply, &["primary: whole"]).await;
    })
    .await;
}

/// Asks a few times to warm up, then `count` at once, and asserts what each of them cost in memory
/// and that sockets are as before. Many at once, because the allocator's own steps of a few MiB
/// are no one's cost.
async fn within_memory(layout: &Layout, (mode, count): (Mode, u64), most: u64) {
    // What is given back is given back at once, so that what is counted is what is held.
    let environment = [("MIMALLOC_PURGE_DELAY", Path::new("0"))];
    let bed = Bed::start_in(&environment, async |_| layout.clone()).await;
    for _ in 0..2 * doors() {
        bed.is_well().await;
        bed.ask(mode, PROMPT).await;
    }
    // waits for: connections that were given up to be closed
    tokio::time::sleep(millis(100)).await;
    let (before, open) = (forget_peak(&bed.gateway), bed.gateway.open_files());
    let asked = (0..count).map(|n| {
        let (base, prompt) = (format!("{}/v1", bed.gateway.api), format!("{PROMPT} {n}"));
        tokio::spawn(async move {
            let reply = Ask::chat("chat", &prompt).mode(mode).send(&base).await;
            whole(&reply, &prompt);
        })
    });
    for task in asked.collect::<Vec<_>>() {
        task.await.expect("whole");
    }
    let grown = peak(&bed.gateway).saturating_sub(before) / count;
    println!("{mode:?}: peak + {grown} bytes each");
    assert!(grown <= most, "grew by {grown} bytes each");
    closes_to(&bed.gateway, open + count as usize).await;
    bed.is_well().await;
}

#[tokio::test]
async fn f38_what_is_too_big_is_closed_at_the_limit_and_costs_no_memory() {
    for behavior in ["f38a", "f38b", "f38c"] {
        each(&BOTH, (behavior, PROMPT), async |bed, reply, place, _| {
            whole(reply, PROMPT);
            within(reply, 2 * normal() + CLOSING);
            let failed = attempts(bed, reply).await;
            let poisoned = |said: &&String| said.contains("(poisoned_stream)");
            let primary = if place == Place::Equal { 1 } else { 2 };
            assert_eq!(failed.iter().filter(poisoned).count(), primary, "{failed:?}");
            bed.saw(primary, 1);
            for attempt in bed.primary().await {
                assert!(attempt.bytes_sent <= 8 * MIB, "{attempt:#?}");
                assert_eq!(attempt.ended, Some("peer_closed"), "{attempt:#?}");
            }
        })
        .await;
        each(&[Place::Alone], (behavior, PROMPT), async |bed, reply, _, mode| {
            match (mode, behavior) {
                (Mode::Stream, "f38a") => broken_off(reply, PROMPT),
                _ => refused(reply, 502, "upstream_failed"),
            }
            bed.saw(2, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn f38_memory_stays_within_two_mebibytes_or_64_where_a_plain_body_is_opened() {
    for behavior in ["f38a", "f38b", "f38c"] {
        println!("{behavior}");
        for mode in MODES {
            let layout = Layout::new(Place::Equal, behavior, "ok");
            within_memory(&layout, (mode, 8), 2 * MIB).await;
        }
        let layout = Layout::new(Place::Equal, behavior, "ok");
        let layout = layout.site_line("primary", "stream = false");
        within_memory(&layout, (Mode::Plain, 4), 64 * MIB + 2 * MIB).await;
    }
}

#[tokio::test]
async fn f39_headers_that_trickle_in_are_silence() {
    each(&BOTH, ("f39", PROMPT), async |bed, reply, _, _| {
        whole(reply, PROMPT);
        within(reply, first_token() + millis(300) + normal());
        hung_up(&bed.primary().await[0], first_token() - SLACK, first_token() + CLOSING);
        bed.saw(1, 1);
        told_as(bed, reply, &["primary: silent (dead)", "fallback: whole"]).await;
    })
    .await;
    each(&[Place::Alone], ("f39", PROMPT), async |bed, reply, _, _| {
        assert!(reply.status == 504 || reply.status == 502, "{}", reply.status);
        bed.saw(1, 0);
    })
    .await;
}

async fn refusing(place: Place) -> Bed {
    Bed::start_with(async |faults: &Running| {
        Layout::new(place, "f50", "ok").reached_at("primary", &faults.addresses.refused)
    })
    .await
}

#[tokio::test]
async fn f40_a_refused_connection_costs_nothing_and_goes_elsewhere() {
    for place in BOTH {
        for mode in MODES {
            let bed = refusing(place).await;
            let reply = bed.ask(mode, PROMPT).await;
            whole(&reply, PROMPT);
            within(&reply, normal() + millis(20));
            bed.saw(0, 1);
            told_as(&bed, &reply, &["primary: reply (dead)", "fallback: whole"]).await;
            still_answers(&bed).await;
        }
    }
    for mode in MODES {
        let bed = refusing(Place::Alone).await;
        let reply = bed.ask(mode, PROMPT).await;
        refused(&reply, 503, "no_site");
        bed.saw(0, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_after_a_second_99_percent_of_new_requests_avoid_a_refusing_site() {
    for place in BOTH {
        let bed = refusing(place).await;
        let base = format!("{}/v1", bed.gateway.api);
        let mut tasks = Vec::new();
        let mut beat = tokio::time::interval(millis(10));
        let (mut before, count) = (0.0, 400);
        for n in 0..count {
            beat.tick().await;
            if n == 100 {
                before = counted_at(&bed.gateway, "primary").await;
            }
            let (base, prompt) = (base.clone(), format!("{PROMPT} {n}"));
            tasks.push(tokio::spawn(async move {
                let ask = Ask::chat("chat", &prompt).stream().with("max_tokens", json!(5));
                let reply = ask.send(&base).await;
                assert_eq!(reply.text(), answer_text(&prompt)[..5].concat());
            }));
        }
        for task in tasks {
            task.await.expect("whole");
        }
        let late = counted_at(&bed.gateway, "primary").await - before;
        // Three strikes that span 300 ms, at a hundred requests a second.
        assert!((3.0..=40.0).contains(&before), "{before} attempts in the first second");
        // A hundredth of 300, and the one that the second began with.
        assert!(late <= 4.0, "{late} attempts after the first second");
    }
}

/// A primary whose name is asked of the fault server's name server, in scope `n`.
async fn named(place: Place, dns: &str) -> Bed {
    Bed::start_with(async |faults: &Running| {
        faults.reset("n");
        faults.set("n", "dns", dns);
        let port = faults.addresses.url.rsplit(':').next().expect("a port");
        Layout::new(place, "f50", "ok")
            .reached_at("primary", &format!("http://n.fault.test:{port}"))
            .site_line("primary", &format!("resolver = \"{}\"", faults.addresses.dns))
    })
    .await
}

#[tokio::test]
async fn f41_names_that_stop_resolving_are_not_noticed() {
    let modes = ["servfail", "silent", "nxdomain", "empty"];
    let all = modes.map(|dns| tokio::spawn(async move { forgets_no_address(dns).await }));
    for each in all {
        each.await.expect("whole");
    }
}

async fn forgets_no_address(dns: &str) {
    let bed = named(Place::Equal, "good").await;
    for _ in 0..doors() {
        whole(&bed.ask(Mode::Stream, PROMPT).await, PROMPT);
    }
    bed.faults.reset("n");
    bed.faults.set("n", "dns", dns);
    let limit = Instant::now() + Duration::from_secs(8);
    while bed.faults.log("n").len() < 2 * doors() {
        assert!(Instant::now() < limit, "nobody asked for the name again");
        // waits for: the background to ask again, which it does every 5 s
        tokio::time::sleep(millis(20)).await;
    }
    // More at once than connections lie open, so that most must be opened now.
    let base = format!("{}/v1", bed.gateway.api);
    let asked = (0..8).map(|n| {
        let (base, prompt) = (base.clone(), format!("{PROMPT} {n}"));
        tokio::spawn(async move {
            let mode = if n % 2 == 0 { Mode::Stream } else { Mode::Plain };
            let reply = Ask::chat("chat", &prompt).mode(mode).send(&base).await;
            whole(&reply, &prompt);
            within(&reply, normal() + millis(250));
            reply
        })
    });
    for task in asked.collect::<Vec<_>>() {
        told_as(&bed, &task.await.expect("whole"), &["primary: whole"]).await;
    }
    bed.saw(doors() + 8, 0);
    // A round of a door asks for two kinds of address, each twice; another round may have begun.
    let asked = bed.faults.log("n").len();
    assert!(asked <= 8 * doors(), "{asked} questions: a request asked by itself");
    bed.is_well().await;
}

#[tokio::test]
async fn f41d_a_name_that_never_resolved_goes_elsewhere_within_the_connect_limit() {
    for (dns, bound) in [("servfail", millis(0)), ("silent", connect()), ("nxdomain", millis(0))] {
        for place in BOTH {
            for mode in MODES {
                let bed = named(place, dns).await;
                let reply = bed.ask(mode, PROMPT).await;
                whole(&reply, PROMPT);
                within(&reply, bound + normal());
                bed.saw(0, 1);
                told_as(&bed, &reply, &["primary: reply (dead)", "fallback: whole"]).await;
                still_answers(&bed).await;
            }
        }
    }
}

async fn distrusted(place: Place, pick: impl Fn(&Running) -> String) -> Bed {
    Bed::start_with(async |faults: &Running| {
        let authority = faults.addresses.ca_pem_file.display();
        Layout::new(place, "f50", "ok")
            .reached_at("primary", &pick(faults))
            .site_line("primary", &format!("ca_file = \"{authority}\""))
    })
    .await
}

#[tokio::test]
async fn f42a_a_bad_certificate_is_never_accepted_and_named_once() {
    let expired = |faults: &Running| faults.addresses.tls_expired.clone();
    let wrong = |faults: &Running| faults.addresses.tls_wrong_name.clone();
    for place in BOTH {
        for mode in MODES {
            let bed = distrusted(place, expired).await;
            let reply = bed.ask(mode, PROMPT).await;
            never_verified(&bed, &reply, "the certificate of localhost expired on ").await;
            let bed = distrusted(place, wrong).await;
            let reply = bed.ask(mode, PROMPT).await;
            never_verified(&bed, &reply, "is made out to another name").await;
        }
    }
}

async fn never_verified(bed: &Bed, reply: &Reply, alarm: &str) {
    whole(reply, PROMPT);
    within(reply, normal() + millis(100));
    bed.saw(0, 1);
    told_as(bed, reply, &["primary: reply (dead)", "fallback: whole"]).await;
    still_answers(bed).await;
    let said = bed.gateway.said();
    assert_eq!(said.matches(alarm).count(), 1, "{said}");
}

#[tokio::test]
async fn f42b_silence_in_the_handshake_ends_at_the_connect_limit() {
    for place in BOTH {
        for mode in MODES {
            let bed = distrusted(place, |faults| faults.addresses.tls_silent.clone()).await;
            bed.faults.reset("tls");
            let reply = bed.ask(mode, PROMPT).await;
            whole(&reply, PROMPT);
            within(&reply, connect() + normal());
            bed.saw(0, 1);
            told_as(&bed, &reply, &["primary: reply (dead)", "fallback: whole"]).await;
            let seen = bed.attempts("tls").await;
            assert_eq!(seen.len(), 1);
            hung_up(&seen[0], connect() - millis(100), connect());
            still_answers(&bed).await;
        }
    }
}

/// Asks once in each of `places` and both modes a primary that speaks HTTP/2.
async fn each_h2(places: &[Place], primary: &str, check: impl AsyncFn(&Bed, &Reply, Place)) {
    for place in places {
        for mode in MODES {
            let bed = Bed::start_with(async |faults: &Running| {
                Layout::new(*place, primary, "ok")
                    .reached_at("primary", &faults.addresses.h2)
                    .site_line("primary", "http2 = \"always\"")
            })
            .await;
            let reply = bed.ask(mode, PROMPT).await;
            check(&bed, &reply, *place).await;
            assert!(bed.primary().await.iter().all(|attempt| attempt.http2));
            bed.is_well().await;
        }
    }
}

#[tokio::test]
async fn f43a_a_stream_that_a_goaway_covers_finishes_there() {
    each_h2(&ALL, "f43a", async |bed, reply, _| {
        whole(reply, PROMPT);
        within(reply, normal());
        bed.saw(1, 0);
        told_as(bed, reply, &["primary: whole"]).await;
        let again = bed.ask(Mode::Stream, "and again").await;
        whole(&again, "and again");
        let primary = bed.primary().await;
        assert_ne!(primary[0].connection, primary[1].connection);
    })
    .await;
}

#[tokio::test]
async fn f43bc_what_was_not_processed_is_sent_again_at_once_and_is_no_strike() {
    for behavior in ["f43b", "f43c"] {
        each_h2(&ALL, behavior, async |bed, reply, place| {
            whole(reply, PROMPT);
            within(reply, normal() + millis(500));
            if place == Place::Equal {
                bed.saw(1, 1);
                told_as(bed, reply, &["primary: reply (transient)", "fallback: whole"]).await;
            } else {
                bed.saw(2, 0);
                told_as(bed, reply, &["primary: reply (transient)", "primary: whole"]).await;
                let primary = bed.primary().await;
                assert!(gap(&primary) <= millis(100) + SLACK, "{primary:#?}");
                assert_ne!(primary[0].connection, primary[1].connection);
            }
            for n in 0..4 {
                // waits for: the time over which strikes in a row would condemn
                tokio::time::sleep(millis(120)).await;
                let prompt = format!("another {n}");
                whole(&bed.ask(Mode::Stream, &prompt).await, &prompt);
            }
            let said = bed.gateway.said();
            assert!(!said.contains("went from up"), "{said}");
        })
        .await;
    }
}

#[tokio::test]
async fn f43d_a_stream_that_is_reset_is_finished_like_a_cut_one() {
    each_h2(&BOTH, "f43d", async |bed, reply, place| {
        whole(reply, PROMPT);
        within(reply, 2 * normal() + CLOSING);
        bed.saw(if place == Place::Equal { 1 } else { 2 }, 1);
        let said = attempts(bed, reply).await;
        assert_eq!(said[0], "primary: cut (transient)");
        assert_eq!(said.last().map(String::as_str), Some("fallback: whole"));
    })
    .await;
}

#[tokio::test]
async fn f43e_a_call_for_calm_is_a_throttle() {
    for behavior in ["f43e", "f43e2"] {
        each_h2(&BOTH, behavior, async |bed, reply, _| {
            whole(reply, PROMPT);
            within(reply, normal() + millis(500));
            bed.saw(1, 1);
            told_as(bed, reply, &["primary: reply (throttle_burst)", "fallback: whole"]).await;
        })
        .await;
        each_h2(&[Place::Alone], behavior, async |bed, reply, _| {
            refused(reply, 503, "overloaded");
            bed.saw(1, 0);
        })
        .await;
    }
}
