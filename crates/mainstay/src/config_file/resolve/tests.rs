//! What can be wrong, and what is said about it.

mod dns;
mod merge;
mod nodes;
mod status;
mod workers;

use super::*;
use crate::config_file::source::Override;
use mainstay_core::config::{Continuation, Limits};
use mainstay_core::names::TargetId;
use mainstay_server::setup::{EngineModel, Upstream};

const EXAMPLE: &str = include_str!("../../../../../mainstay.example.toml");

/// Resolves `text` as `m.toml`; what is wrong comes as the lines that are printed.
fn resolved<const N: usize>(text: &str, variables: [(&str, &str); N]) -> Result<Resolved, String> {
    let environment = Environment::from(variables);
    let overrides = environment.overrides();
    with(text, &environment, &overrides, Path::new("/nowhere"))
}

fn with(
    text: &str,
    environment: &Environment,
    overrides: &[Override],
    base: &Path,
) -> Result<Resolved, String> {
    let name = if text.is_empty() { "" } else { "m.toml" };
    let lines = |problems: Vec<Problem>| {
        problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    };
    let source = Source::parse(name, text, overrides).map_err(|one| lines(vec![one]))?;
    let (file, unknown) = source.read().map_err(|one| lines(vec![one]))?;
    match resolve(&source, file, &Surroundings { environment, base }) {
        Ok(resolved) if unknown.is_empty() => Ok(resolved),
        Ok(_) => Err(lines(unknown)),
        Err(more) => Err(lines(unknown.into_iter().chain(more).collect())),
    }
}

/// Asserts that `text` is refused with exactly these lines.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let lines = resolved(text, []).expect_err("it is wrong");
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "\n{text}");
}

/// The example with every commented-out key in force.
fn example_uncommented() -> String {
    let is_key = |line: &str| {
        let (key, rest) = line.split_once(" = ")?;
        let word = key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        (word && !rest.is_empty()).then_some(())
    };
    let is_table = |line: &str| line.starts_with('[') && line.ends_with(']');
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest).is_some() || is_table(rest) => rest.to_string(),
        _ => line.to_string(),
    };
    EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_right_as_it_stands() {
    let resolved = resolved(EXAMPLE, [("DEEPSEEK_API_KEY", "k")]).expect("the example is right");
    let core = &resolved.setup.core;
    assert_eq!(core.sites.len(), 3);
    assert_eq!(core.models.len(), 1);
    assert_eq!(core.targets.len(), 3);
    assert_eq!(core.targets[1].window, Some(131_072));
    assert_eq!(core.targets[2].continuation, Continuation::None);
    assert_eq!(resolved.setup.keys[0].tier, 0);
}

#[test]
fn every_line_of_configuration_that_the_built_in_model_quotes_is_one() {
    let guide: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(mainstay_engine::builtin::guide()).expect("JSON");
    let quoted = guide.iter().filter(|(slot, _)| slot.starts_with("[toml:"));
    let texts: Vec<&str> = quoted.filter_map(|(_, text)| text.as_str()).collect();
    assert!(texts.len() > 10);
    for text in texts {
        let section = match text.split(' ').next() {
            Some("capacity" | "fate") => "[[site]]\nname = \"s\"\nprovider = \"deepseek\"\n",
            Some("substitutes") => "[[model]]\nname = \"m\"\nserved_by = []\n",
            _ => "",
        };
        let whole = format!("{section}{text}");
        let source = Source::parse("guide", &whole, &[]).expect("TOML");
        let (_, unknown) = source.read().unwrap_or_else(|problem| panic!("{whole}\n{problem}"));
        assert_eq!(unknown, [], "{whole}");
    }
}

#[test]
fn the_example_names_every_key_and_no_other() {
    let text = example_uncommented();
    let source = Source::parse("example", &text, &[]).expect("TOML");
    let (file, unknown) = source.read().expect("right types");
    assert_eq!(unknown, []);
    // A list is complete when its tables together have every key.
    fn gaps(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        use serde_json::Value::{Array, Null, Object};
        match value {
            Null => found.push(path.to_string()),
            Array(items) if items.is_empty() => found.push(path.to_string()),
            Object(map) => {
                map.iter().for_each(|(key, each)| gaps(each, &format!("{path}.{key}"), found));
            }
            Array(items) => {
                let each = items.iter().map(|item| {
                    let mut found = Vec::new();
                    gaps(item, path, &mut found);
                    found
                });
                let all = each.reduce(|some, more| {
                    some.into_iter().filter(|path| more.contains(path)).collect()
                });
                found.extend(all.unwrap_or_default());
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    gaps(&serde_json::to_value(&file).expect("JSON"), "", &mut found);
    assert_eq!(found, Vec::<String>::new(), "keys without a line in mainstay.example.toml");
}

#[test]
fn the_limits_of_the_example_are_the_defaults() {
    let text = example_uncommented();
    let limits = &text[text.find("[limits]").expect("there")..];
    let as_written = resolved(limits, []).expect("right").setup;
    let default = resolved("", []).expect("right").setup;
    assert_eq!(as_written.core.limits, Limits::default());
    assert_eq!(format!("{:?}", as_written.bounds), format!("{:?}", default.bounds));
    assert_eq!(as_written.drain, default.drain);
    assert_eq!(as_written.log, default.log);
}

#[test]
fn the_fast_profile_divides_our_own_waits_and_keeps_a_wait_that_is_written() {
    let text = "[limits]\nprofile = \"fast\"\ndrip = \"7s\"";
    let limits = resolved(text, []).expect("right").setup.core.limits;
    assert_eq!(limits.connect.as_millis(), 400);
    assert_eq!(limits.back_off[2].as_secs(), 3);
    assert_eq!(limits.wait_max.as_secs(), 3);
    assert_eq!(limits.drip.as_secs(), 7);
}

#[test]
fn an_admin_token_is_long_enough_and_only_its_hash_is_kept() {
    let text = "[listen]\nadmin_token_env = \"T\"";
    let token = "a-token-of-enough-letters";
    let setup = resolved(text, [("T", token)]).expect("right").setup;
    assert!(setup.listen.admin_token.is_some() && !format!("{setup:?}").contains(token));
    assert!(resolved("", []).expect("right").setup.listen.admin_token.is_none());
    refused(text, &["m.toml:2: listen.admin_token_env: T is not set in the environment; set it"]);
    let short = resolved(text, [("T", "short")]).expect_err("short");
    assert!(short.contains("has 5 characters; take 20 or more"), "{short}");
    let both = format!("{text}\nadmin_token_file = \"t\"");
    let both = resolved(&both, [("T", token)]).expect_err("both");
    assert!(both.contains("keep one"), "{both}");
}

#[test]
fn an_unknown_key_is_refused_with_its_nearest_neighbour() {
    refused(
        "[[site]]\nname = \"a\"\nengine = { modle = 1 }\ncapcity = 3\n[lisen]\n",
        &[
            "m.toml:5: lisen: unknown key; did you mean `listen`?",
            "m.toml:4: site.capcity: unknown key; did you mean `capacity`?",
            "m.toml:3: site.engine.modle: unknown key; did you mean `model`?",
        ],
    );
}

#[test]
fn a_wrong_type_is_refused_with_line_column_and_key() {
    refused(
        "[[site]]\ncapacity = \"many\"",
        &["m.toml:2:12: site.capacity: string \"many\", expected a whole number"],
    );
    refused(
        "[limits]\n\ndrip = 10",
        &["m.toml:3:8: limits.drip: \"10\" is not a time; write it like \
             \"500ms\", \"30s\" or \"2m\""],
    );
    refused(
        "[log]\nformat = \"xml\"",
        &["m.toml:2:10: log.format: unknown value `xml`, expected one of `auto`, `text`, `json`"],
    );
    let lines = resolved("[listen\napi = 1", []).expect_err("no TOML");
    assert!(lines.starts_with("m.toml:1:8: "), "{lines}");
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = r#"
[listen]
api = "here"
[[site]]
name = "deepseek"
provider = "deepsek"
[[site]]
name = "deepseek"
provider = "openai"
base_url = "127.0.0.1:8000"
capacity = 0
resolver = "dns"
[[model]]
name = "chat"
served_by = ["deepsek/x", "deepseek"]
[[model]]
name = "none"
[[tier]]
name = "free"
floor = 0.9
[[key]]
name = "a"
tier = "fre"
hash = "abc"
"#;
    let expected = [
        "m.toml:3: listen.api: `here` is no address; write IP:PORT, e.g. 127.0.0.1:8080",
        "m.toml:6: site.provider: no provider `deepsek`; did you mean `deepseek`? \
         (`openai` is any OpenAI-compatible server)",
        "m.toml:8: site.name: `deepseek` is there twice; give each site its own name",
        "m.toml:10: site.base_url: `127.0.0.1:8000` does not begin with http:// or https://; \
         write it like https://host/v1",
        "m.toml:11: site.capacity: 0 would keep the site from ever answering; \
         leave it out if unknown",
        "m.toml:12: site.resolver: `dns` is no address; write the DNS server's IP or IP:PORT",
        "m.toml:15: model.served_by: no site `deepsek` (in `deepsek/x`); did you mean `deepseek`?",
        "m.toml:15: model.served_by: `deepseek` names no model; write it as \"site/model\"",
        "m.toml:16: model.served_by: served_by is empty; name at least one \"site/model\"",
        "m.toml:18: tier: the floors add up to 1.55 (enterprise 0.4, pro 0.25, free 0.9, \
         batch 0); lower them to 1 or less in all",
        "m.toml:23: key.tier: no tier `fre`; did you mean `free`?",
        "m.toml:24: key.hash: is not 64 hex digits; `mainstay keys create` prints one",
    ];
    refused(text, &expected);
}

#[test]
fn a_key_comes_from_one_place_and_that_place_must_hold_one() {
    let site = "[[site]]\nname = \"a\"\nprovider = \"openai\"\n";
    let two = format!("{site}key = \"k\"\nkey_env = \"K\"");
    let told = "m.toml:1: site: has more than one of key, key_env and key_file; keep one";
    refused(&two, &[told]);
    let unset = format!("{site}key_env = \"UNSET\"");
    let told = "m.toml:4: site.key_env: UNSET is not set in the environment; set it";
    refused(&unset, &[told]);
    let missing = resolved(&format!("{site}key_file = \"no/such\""), []).expect_err("missing");
    let head = "m.toml:4: site.key_file: cannot read /nowhere/no/such: ";
    assert!(missing.starts_with(head), "{missing}");
    let none = "m.toml:1: site: has no key and OPENAI_API_KEY is not set in the environment; \
                set it, or add key_file = \"…\"";
    refused(site, &[none]);
}

#[test]
fn a_provider_key_is_not_shown_to_another_host_unasked() {
    let text =
        "[[site]]\nname = \"a\"\nprovider = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"";
    let resolved = resolved(text, [("OPENAI_API_KEY", "k")]).expect("right");
    let Upstream::Provider(provider) = &resolved.setup.upstreams[0] else { panic!("a provider") };
    assert!(provider.key.is_none());
    assert_eq!(provider.base_url, "http://127.0.0.1:1/v1");
}

#[test]
fn a_directory_of_weights_must_be_whole() {
    let base = tempfile::tempdir().expect("a directory");
    std::fs::write(base.path().join("config.json"), "{\"max_position_embeddings\": 4096}").unwrap();
    let text = "[[site]]\nname = \"a\"\nengine = { model = \".\" }";
    let environment = Environment::default();
    let lines = with(text, &environment, &[], base.path()).expect_err("it lacks files");
    assert!(lines.contains("lacks tokenizer.json, *.safetensors; copy"), "{lines}");
    assert!(lines.starts_with("m.toml:3: site.engine.model: "), "{lines}");
}

#[test]
fn a_gguf_file_must_be_there_and_gives_the_model_its_name() {
    let base = tempfile::tempdir().expect("a directory");
    let text = "[[site]]\nname = \"a\"\nengine = { model = \"tiny.gguf\", weights = \"q8\" }";
    let environment = Environment::default();
    let lines = with(text, &environment, &[], base.path()).expect_err("there is no such file");
    assert!(lines.contains("cannot read") && lines.contains("mend the path"), "{lines}");
    let file = base.path().join("tiny.gguf");
    std::fs::write(&file, "GGUF").unwrap();
    let lines = with(text, &environment, &[], base.path()).expect_err("it is cut short");
    assert!(lines.contains("no whole GGUF file"), "{lines}");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests/fixtures");
    std::fs::copy(fixtures.join("qwen3/model.gguf"), file).unwrap();
    let core = with(text, &environment, &[], base.path()).expect("right").setup.core;
    assert!(core.models.iter().any(|model| model.name == "tiny"));
    assert_eq!(core.targets[0].window, Some(512));
}

#[test]
fn a_device_is_the_processor_or_a_card_that_this_build_computes_on() {
    let base =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests/fixtures/qwen3");
    let on = |device: &str| {
        let engine = format!("engine = {{ model = \"model.gguf\", device = \"{device}\" }}");
        let text = format!("[[site]]\nname = \"a\"\n{engine}");
        with(&text, &Environment::default(), &[], &base)
    };
    assert!(on("cpu").is_ok());
    let lines = on("tpu").expect_err("there is no such device");
    assert!(lines.contains("\"cpu\", \"cuda\" or \"cuda:1\""), "{lines}");
    for device in ["cuda", "cuda:1"] {
        match (on(device), cfg!(feature = "cuda")) {
            (Ok(_), has_cards) => assert!(has_cards, "no build without cards takes {device}"),
            (Err(lines), _) => assert!(lines.contains("--features cuda"), "{lines}"),
        }
    }
}

#[test]
fn only_a_model_of_ones_own_runs_in_a_process_of_its_own() {
    let base =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../mainstay-engine/tests/fixtures/qwen3");
    let with_model = |model: &str| {
        let engine = format!("engine = {{ model = \"{model}\", process = true }}");
        with(&format!("[[site]]\nname = \"a\"\n{engine}"), &Environment::default(), &[], &base)
    };
    let upstream = &with_model("model.gguf").expect("right").setup.upstreams[0];
    assert!(matches!(upstream, Upstream::Engine(EngineModel::Apart(..))), "{upstream:?}");
    for model in ["builtin", "status", "rehearsal"] {
        let lines = with_model(model).expect_err("nothing to run apart");
        assert!(lines.starts_with("m.toml:3: site.engine.process: only a model of your own"));
    }
}

#[test]
fn an_api_for_other_machines_needs_a_key() {
    let lines = resolved("[listen]\napi = \"0.0.0.0:8080\"", []).expect_err("open");
    assert!(lines.contains("no key is configured"), "{lines}");
    let open = "allow_anonymous = true\n[listen]\napi = \"0.0.0.0:8080\"";
    assert!(resolved(open, []).is_ok());
}

#[test]
fn the_environment_wins_over_the_file_and_is_named_when_it_is_wrong() {
    let file = "[listen]\napi = \"127.0.0.1:1\"\n";
    let right = resolved(file, [("MAINSTAY__LISTEN__API", "127.0.0.1:9")]).expect("right");
    assert_eq!(right.setup.listen.api.port(), 9);
    let waits = ("MAINSTAY__LIMITS__STALL", "[\"1s\", \"3s\"]");
    assert_eq!(resolved("", [waits]).expect("right").setup.core.limits.stall.1.as_secs(), 3);
    let wrong = [
        (("MAINSTAY__LISTEN__API", "x"), "MAINSTAY__LISTEN__API: listen.api: `x` is no address"),
        (("MAINSTAY__LISTEN__APY", "x"), "MAINSTAY__LISTEN__APY: listen.apy: unknown key; did"),
        (("MAINSTAY__LIMITS__DRIP", "5"), "MAINSTAY__LIMITS__DRIP: limits.drip: \"5\" is not a"),
    ];
    for (variable, told) in wrong {
        let lines = resolved(file, [variable]).expect_err("wrong");
        assert!(lines.starts_with(told), "{lines}");
    }
    let site = ("MAINSTAY__SITE__NAME", "x");
    let lines = resolved("[[site]]\nname = \"a\"", [site]).expect_err("a list");
    assert!(lines.contains("belong in the file"), "{lines}");
}

#[test]
fn keys_in_the_environment_become_sites_and_the_engine_is_the_last() {
    let variables = [
        ("DASHSCOPE_API_KEY", "b"),
        ("DEEPSEEK_API_KEY", "a"),
        ("DEEPSEEK_BASE_URL", "http://127.0.0.1:9/v1/"),
        ("OPENAI_API_KEY", " "),
    ];
    let resolved = resolved("", variables).expect("right");
    let core = &resolved.setup.core;
    let names: Vec<&str> = core.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(names, ["deepseek", "dashscope", "builtin"]);
    assert!(resolved.missing.contains(&"OPENAI_API_KEY".to_string()));
    let chat = &core.models[0];
    assert_eq!(chat.name, "chat");
    let sites = |ids: &[mainstay_core::names::TargetId]| -> Vec<u16> {
        ids.iter().map(|id| core.targets[usize::from(id.0)].site.0).collect()
    };
    assert_eq!(sites(&chat.served_by), [0]);
    assert_eq!(sites(&chat.substitutes), [1, 2]);
    let Upstream::Provider(provider) = &resolved.setup.upstreams[0] else { panic!("a provider") };
    assert_eq!(provider.base_url, "http://127.0.0.1:9/v1");
    assert_eq!(resolved.origins[0].why, "DEEPSEEK_API_KEY, http://127.0.0.1:9/v1");
    assert!(core.models.iter().any(|model| model.name == "builtin"));
}

#[test]
fn a_wrong_base_url_of_the_environment_is_told_by_its_variable() {
    let variables = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "localhost")];
    let lines = resolved("", variables).expect_err("wrong");
    let told = "environment: OPENAI_BASE_URL: `localhost` does not begin with http:// or https://";
    assert!(lines.starts_with(told), "{lines}");
}

#[test]
fn nothing_at_all_is_the_embedded_engine() {
    let resolved = resolved("", []).expect("right");
    let core = &resolved.setup.core;
    assert_eq!(core.sites.len(), 1);
    assert!(core.sites[0].is_embedded());
    let names: Vec<&str> = core.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["chat", "builtin"]);
    let tiers: Vec<&str> = core.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(tiers, ["enterprise", "pro", "free", "batch"]);
}

#[test]
fn each_model_has_a_last_line_of_its_own() {
    let sites = "[[site]]\nname = \"far\"\nprovider = \"openai\"\nkey = \"k\"\n\
                 [[site]]\nname = \"small\"\nengine = { model = \"builtin\" }\n\
                 [[site]]\nname = \"report\"\nengine = { model = \"status\" }\n";
    let model = |name: &str, last: &str| {
        format!("[[model]]\nname = \"{name}\"\nserved_by = [\"far/gpt\"]\nsubstitutes = {last}\n")
    };
    let models = [
        model("strict", "[]"),
        model("told", "[\"report/status\"]"),
        model("kept", "[\"small/builtin\", \"report/status\"]"),
    ];
    let core = resolved(&(sites.to_owned() + &models.concat()), []).expect("right").setup.core;
    let lasts: Vec<Vec<&str>> = core
        .models
        .iter()
        .map(|model| {
            let site = |id: &TargetId| core.targets[usize::from(id.0)].site;
            let name = |id| core.sites[usize::from(site(id).0)].name.as_str();
            model.substitutes.iter().map(name).collect()
        })
        .collect();
    assert_eq!(lasts, [vec![], vec!["report"], vec!["small", "report"]]);
}

#[test]
fn one_target_stands_for_each_model_at_a_site() {
    let text = "[[site]]\nname = \"e\"\nengine = {}\n\
                [[model]]\nname = \"a\"\nserved_by = [\"e/builtin\"]\n\
                [[model]]\nname = \"b\"\nserved_by = [\"e/builtin\"]\n";
    assert_eq!(resolved(text, []).expect("right").setup.core.targets.len(), 1);
    let wrong = text.replace("e/builtin", "e/gpt");
    let lines = resolved(&wrong, []).expect_err("no such model");
    assert!(lines.contains("e has no model `gpt`; it has builtin"), "{lines}");
}

#[test]
fn a_new_tier_ranks_below_the_one_before_it() {
    let text = "[[tier]]\nname = \"pro\"\n[[tier]]\nname = \"startup\"\nfloor = 0.1";
    let core = resolved(text, []).expect("right").setup.core;
    let tiers: Vec<(&str, f64)> = core.tiers.iter().map(|t| (t.name.as_str(), t.floor)).collect();
    assert_eq!(tiers[1..3], [("pro", 0.25), ("startup", 0.1)]);
}
