//! The engine on an NVIDIA card, where there is one: `cargo test -p mainstay-engine --features cuda
//! --test card`. The same answers as the reference, and the same whatever the batch.

#[path = "../engine/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use fixture::{ALL, KINDS, engine, greedy, prompt, run, settings, work};
use mainstay_engine::{Device, KvPrecision, Sampling, Settings, Work};

fn on_card() -> Settings {
    Settings { device: Device::Cuda(0), ..settings() }
}

#[test]
fn greedy_tokens_are_those_of_the_reference() {
    for name in ALL {
        let (prompt, expected) = greedy(name);
        let mut engine = engine(name, on_card());
        let work = Work {
            prompt,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_tokens: expected.len(),
            ..Work::default()
        };
        let answer = run(&mut engine, vec![work]).remove(0);
        assert_eq!(answer.tokens, expected, "{name}");
    }
}

#[test]
fn tokens_do_not_depend_on_batch_mates_chunks_or_pages() {
    let works = || -> Vec<Work> {
        [(5, 1), (40, 2), (19, 3)]
            .map(|(length, salt)| work(&prompt(length, salt), salt, 30))
            .into()
    };
    for kv in [KvPrecision::F32, KvPrecision::Bf16] {
        for name in KINDS {
            let settings = Settings { kv, ..on_card() };
            let mut one = engine(name, settings.clone());
            let alone: Vec<_> =
                works().into_iter().map(|work| run(&mut one, vec![work]).remove(0)).collect();
            let mut together = engine(name, Settings { page_tokens: 5, ..settings });
            assert_eq!(run(&mut together, works()), alone, "{name} {kv:?}");
        }
    }
}
