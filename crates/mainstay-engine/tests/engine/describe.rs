//! Sizes from the numbers of public configurations, and the cache's growth as it is.

use crate::fixture::{engine, path, prompt, settings, work};
use mainstay_engine::describe::Description;
use mainstay_engine::{KvPrecision, Settings};

fn public(name: &str) -> Description {
    Description::read(&path("public", &format!("{name}.json"))).unwrap()
}

#[test]
fn bytes_per_token_are_those_that_follow_from_public_configurations() {
    for (name, bytes) in [
        ("deepseek-v3", 70_272),
        ("deepseek-v2", 69_120),
        ("deepseek-v2-lite", 31_104),
        ("deepseek-67b", 389_120),
        ("qwen2.5-72b", 327_680),
        ("llama-3.1-405b", 516_096),
        ("llama-3.1-70b", 327_680),
        ("llama-3.1-8b", 131_072),
        ("qwen3-235b-a22b", 192_512),
        ("qwen3-32b", 262_144),
        ("qwen3-0.6b", 114_688),
    ] {
        assert_eq!(public(name).kv_bytes_per_token(KvPrecision::Bf16), bytes, "{name}");
    }
}

/// Millions of parameters as the models' authors give them, all and active, rounded as they do. Of
/// DeepSeek-V2-Lite they say 2,400 active, without the embedding's 210.
#[test]
fn parameters_are_those_that_the_models_are_known_by() {
    for (name, all, active, rounding) in [
        ("deepseek-v3", 671_000, 37_000, 1_000),
        ("deepseek-v2", 236_000, 21_000, 1_000),
        ("deepseek-v2-lite", 15_700, 2_700, 100),
        ("deepseek-67b", 67_000, 67_000, 1_000),
        ("qwen2.5-72b", 72_700, 72_700, 100),
        ("llama-3.1-405b", 405_000, 405_000, 1_000),
        ("llama-3.1-70b", 70_600, 70_600, 100),
        ("llama-3.1-8b", 8_030, 8_030, 10),
        ("qwen3-235b-a22b", 235_000, 22_000, 1_000),
        ("qwen3-32b", 32_800, 32_800, 100),
        ("qwen3-0.6b", 596, 596, 1),
    ] {
        let description = public(name);
        for (seen, known) in [(description.parameters, all), (description.active, active)] {
            let off = (seen / 1_000_000).abs_diff(known);
            assert!(off <= rounding, "{name}: {seen} for {known} millions");
        }
    }
    assert_eq!(public("deepseek-v3").quantised.as_deref(), Some("fp8"));
}

#[test]
fn parameters_of_a_model_that_is_there_are_those_in_its_files() {
    for name in ["deepseek-v3", "llama3", "qwen2", "qwen3", "qwen3-moe"] {
        let description = Description::read(&path(name, "")).unwrap();
        let loaded = engine(name, settings()).model().parameters as u64;
        assert_eq!(description.parameters, loaded, "{name}");
        assert!(description.weights.is_some() && description.tokenizer.is_none(), "{name}");
    }
}

#[test]
fn a_gguf_file_describes_the_same_model_as_its_directory() {
    for name in ["deepseek-v3", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"] {
        let of = |file: &str| Description::read(&path(name, file)).unwrap();
        let (gguf, directory) = (of("model.gguf"), of(""));
        let told = |one: &Description| {
            let kv = one.kv_bytes_per_token(KvPrecision::F16);
            (one.architecture.clone(), one.parameters, one.active, one.context, kv)
        };
        assert_eq!(told(&gguf), told(&directory), "{name}");
        assert!(gguf.tokenizer.is_some() && gguf.weights.is_some(), "{name}");
    }
}

#[test]
fn the_cache_grows_with_each_token_as_described() {
    for name in ["deepseek-v3", "llama3", "qwen3-moe"] {
        for kv in [KvPrecision::F16, KvPrecision::F32] {
            let page_tokens = 8;
            let mut engine = engine(name, Settings { kv, page_tokens, ..settings() });
            let described = Description::read(&path(name, "")).unwrap().kv_bytes_per_token(kv);
            // The last token of a sequence is never in the cache.
            engine.submit(work(&prompt(400, 1), 1, 80)).unwrap();
            let (mut out, mut most) = (Vec::new(), 0);
            while !engine.is_idle() {
                engine.step(&mut out);
                most = most.max(engine.pages().used);
            }
            let pages = engine.pages();
            let measured = (pages.bytes / pages.total * most) as f64;
            let held = (400 + out.len() - 1) as f64;
            let ratio = measured / held / described as f64;
            assert!((0.98..1.02).contains(&ratio), "{name}: {ratio} times what is described");
        }
    }
}

#[test]
fn memory_at_a_batch_and_a_context_is_in_whole_pages() {
    let description = public("deepseek-v3");
    let bytes = description.kv_bytes(KvPrecision::Bf16, 8, 4_000, 32);
    assert_eq!(bytes, 8 * 4_000 * 70_272);
    assert_eq!(description.kv_bytes(KvPrecision::Bf16, 1, 1, 32), 32 * 70_272);
    assert_eq!(description.weight_bytes(), description.parameters * 2);
}
