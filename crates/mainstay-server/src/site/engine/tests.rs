//! Each trap that routers have fallen into when they read these texts, as a test.

use super::{Counted, Engine, Levels, Report};

macro_rules! fixture {
    ($path:literal) => {
        include_bytes!(concat!("../../../../../tests/workers/fixtures/", $path))
    };
}

fn read(engine: Engine, pages: &[(&str, &[u8])]) -> Report {
    let mut report = Report::default();
    pages.iter().for_each(|(path, body)| engine.read(path, body, &mut report));
    report
}

fn vllm(body: &[u8]) -> Report {
    read(Engine::Vllm, &[("/metrics", body)])
}

const LOADS: &str = "/v1/loads?include=core,queues,disagg";

#[test]
fn a_name_that_is_the_beginning_of_another_is_told_from_it() {
    let report = vllm(fixture!("vllm/metrics-new.txt"));
    let levels = report.ranks[&0];
    assert_eq!((levels.running, levels.waiting, levels.deferred), (Some(3), Some(2), Some(7)));
    let report = read(Engine::Sglang, &[("/metrics", fixture!("sglang/metrics-new.txt"))]);
    assert_eq!(report.fullest().running, Some(6), "and not the 90 of the offline batch");
}

#[test]
fn what_waits_by_design_does_not_wait_for_room() {
    let levels = vllm(fixture!("vllm/metrics-new.txt")).fullest();
    assert_eq!(levels.waiting, Some(2), "9 wait in all");
    let levels = vllm(fixture!("vllm/metrics-ranks.txt")).fullest();
    assert_eq!(levels.waiting, Some(11), "without a reason that is known all may wait for room");
}

#[test]
fn an_absent_series_is_none_and_never_zero() {
    assert_eq!(vllm(b""), Report::default());
    assert_eq!(vllm(b"vllm:num_requests_waiting 0\n").ranks[&0].running, None);
    let old = vllm(fixture!("vllm/metrics-old.txt"));
    assert_eq!((old.is_asleep, old.blocks, old.counted.cached), (None, None, None));
    assert_eq!(old.ranks[&0].deferred, None);
    let metrics = fixture!("llama.cpp/metrics-busy.txt");
    let report = read(Engine::LlamaCpp, &[("/metrics", metrics)]);
    assert_eq!(report.fullest().kv_use, None, "it has no such level any more");
    for engine in [Engine::Vllm, Engine::Sglang, Engine::LlamaCpp, Engine::OpenAi] {
        for path in engine.paths() {
            for broken in [&b"\xff\xfe"[..], b"<html>", b"{}", b"[]", b"null", b"[1]"] {
                let report = read(engine, &[(path, broken)]);
                assert_eq!(report.fullest(), Levels::default(), "{path} {broken:?}");
            }
        }
    }
}

#[test]
fn names_of_older_and_newer_versions_are_both_known() {
    let (new, old) =
        (vllm(fixture!("vllm/metrics-new.txt")), vllm(fixture!("vllm/metrics-old.txt")));
    assert_eq!((new.fullest().kv_use, old.fullest().kv_use), (Some(0.4567), Some(0.12)));
    assert_eq!(
        (new.block_tokens, new.blocks, new.model.as_deref()),
        (Some(16), Some(27_000), Some("m"))
    );
    let report = read(Engine::LlamaCpp, &[("/metrics", fixture!("llama.cpp/metrics-2024.txt"))]);
    let levels = report.fullest();
    assert_eq!((levels.running, levels.kv_use), (Some(2), Some(0.25)));
}

#[test]
fn counters_come_with_and_without_total() {
    let (new, old) =
        (vllm(fixture!("vllm/metrics-new.txt")), vllm(fixture!("vllm/metrics-old.txt")));
    assert_eq!((new.counted.preempted, old.counted.preempted), (Some(1), Some(4)));
    let counted = Counted {
        prompt: Some(5_052_943),
        output: Some(120_000),
        preempted: Some(1),
        looked_up: Some(1000),
        cached: Some(640),
    };
    assert_eq!(new.counted, counted);
}

#[test]
fn levels_of_ranks_are_kept_apart_and_never_added_up() {
    let report = vllm(fixture!("vllm/metrics-ranks.txt"));
    assert_eq!((report.ranks[&0].running, report.ranks[&1].running), (Some(3), Some(40)));
    let fullest = report.fullest();
    assert_eq!((fullest.running, fullest.kv_use), (Some(40), Some(0.95)));
    assert_eq!(report.counted.prompt, Some(150), "counts of different ranks are added up");
    assert_eq!(report.is_asleep, Some(true), "one of its ranks sleeps");
    let report = read(Engine::Sglang, &[("/metrics", fixture!("sglang/metrics-new.txt"))]);
    assert_eq!(report.ranks[&0].running, Some(4), "both parts of a rank tell of the same");
    assert_eq!(report.counted.prompt, Some(8000));
    assert_eq!((report.counted.cached, report.counted.preempted), (Some(120), Some(17)));
}

#[test]
fn sglang_with_underscores_for_colons_is_read_alike() {
    for path in [LOADS, "/metrics"] {
        let body = fixture!("sglang/metrics-underscores.txt");
        let report = read(Engine::Sglang, &[(path, body)]);
        let levels = report.fullest();
        assert_eq!((levels.running, levels.waiting, levels.kv_use), (Some(2), Some(0), Some(0.5)));
        assert_eq!((report.block_tokens, report.blocks), (Some(1), Some(50_000)));
    }
}

#[test]
fn sglang_at_its_start_has_no_loads_and_no_load() {
    let report = read(Engine::Sglang, &[(LOADS, fixture!("sglang/loads-starting.json"))]);
    assert_eq!(report, Report::default());
}

#[test]
fn what_sglang_told_with_its_loads_is_not_overwritten_by_older_gauges() {
    let pages: [(&str, &[u8]); 2] =
        [(LOADS, fixture!("sglang/loads.json")), ("/metrics", fixture!("sglang/metrics-new.txt"))];
    let report = read(Engine::Sglang, &pages);
    let first = Levels {
        running: Some(12),
        waiting: Some(3),
        deferred: None,
        waiting_tokens: Some(4200),
        kv_use: Some(0.7),
    };
    assert_eq!(report.ranks[&0], first, "`queues.waiting` leaves out the queues of pairs: 1 of 3");
    assert_eq!(report.ranks[&1].kv_use, Some(0.0));
    assert_eq!((report.slots, report.model.as_deref()), (Some(256), Some("m")));
}

#[test]
fn llama_cpp_as_it_was_recorded_at_work() {
    let pages: [(&str, &[u8]); 3] = [
        ("/metrics", fixture!("llama.cpp/metrics-busy.txt")),
        ("/slots", fixture!("llama.cpp/slots-busy.json")),
        ("/props", fixture!("llama.cpp/props.json")),
    ];
    let report = read(Engine::LlamaCpp, &pages);
    let levels = report.fullest();
    assert_eq!((levels.running, levels.waiting), (Some(4), Some(2)));
    assert_eq!((report.slots, report.slots_busy, report.context), (Some(4), Some(4), Some(2048)));
    assert!(levels.kv_use.is_some_and(|use_| use_ > 0.1 && use_ < 1.0), "{levels:?}");
    assert_eq!((report.is_asleep, report.model.as_deref()), (Some(false), Some("letters")));
    let idle = read(Engine::LlamaCpp, &[("/metrics", fixture!("llama.cpp/metrics-idle.txt"))]);
    assert_eq!(idle.fullest().running, Some(0), "told, and so no `None`");
    assert!(!idle.is_another_life(&report) && report.is_another_life(&idle));
}

#[test]
fn llama_cpp_without_a_free_slot_says_nothing_of_its_slots() {
    let report = read(Engine::LlamaCpp, &[("/slots", fixture!("llama.cpp/slots-full.json"))]);
    assert_eq!(report, Report::default());
}

#[test]
fn averages_of_llama_cpp_are_no_levels() {
    let only = b"llamacpp:predicted_tokens_seconds 38.2\nllamacpp:n_busy_slots_per_decode 3.9\n";
    assert_eq!(read(Engine::LlamaCpp, &[("/metrics", only)]), Report::default());
}

#[test]
fn a_counter_that_falls_or_another_model_is_another_life() {
    let before = vllm(fixture!("vllm/metrics-new.txt"));
    assert!(!before.is_another_life(&before));
    let fallen = Counted { output: Some(3), ..before.counted };
    assert!(Report { counted: fallen, ..before.clone() }.is_another_life(&before));
    let renamed = Report { model: Some("n".into()), ..before.clone() };
    assert!(renamed.is_another_life(&before));
    // Absent is not fallen.
    assert!(!Report::default().is_another_life(&before));
}
