//! A cache far too small for all who ask: sequences go out and come back, and nobody can tell.

use crate::fixture::{Answer, DRAFTS, KINDS, engine, prompt, random_after, run, settings, work};
use mainstay_engine::{Drafts, Engine, Progress, SequenceId, Settings, Work};

/// A number below `below`, and the next state.
fn next(random: &mut u64, below: u64) -> u64 {
    *random = random_after(*random);
    (*random >> 33) % below
}

/// Those that run, with what was heard of them.
#[derive(Default)]
struct Open(Vec<(SequenceId, Work, Answer)>);

impl Open {
    /// Takes reports in; what ended is compared with a run alone.
    fn hear(&mut self, out: &[Progress], quiet: &mut Engine) -> usize {
        for progress in out {
            let one = self.0.iter_mut().find(|(id, ..)| *id == progress.id).unwrap();
            one.2.take(progress);
        }
        let (ended, open) = self.0.drain(..).partition(|(.., answer)| answer.finish.is_some());
        self.0 = open;
        let ended: Vec<(SequenceId, Work, Answer)> = ended;
        for (_, work, answer) in &ended {
            let alone = run(quiet, vec![work.clone()]).remove(0);
            assert_eq!((&answer.tokens, &answer.text), (&alone.tokens, &alone.text));
            assert_eq!(answer.finish, alone.finish);
        }
        ended.len()
    }
}

fn check_pages(engine: &Engine) {
    let pages = engine.pages();
    assert_eq!(pages.free + pages.used + pages.cached, pages.total);
}

#[test]
fn whoever_is_swapped_out_comes_back_with_the_same_tokens() {
    let mut swaps = 0;
    let names = [KINDS[0], KINDS[1], KINDS[2], DRAFTS];
    for seed in 0..8u64 {
        let mut random = seed * 104_729 + 3;
        let name = names[seed as usize % 4];
        // Drafts change nothing, so the model without them says what is right.
        let mut quiet = engine(if name == DRAFTS { KINDS[0] } else { name }, settings());
        let page_tokens = [1, 4, 8, 16][next(&mut random, 4) as usize];
        let cache_bytes = engine(name, settings()).model().kv_bytes_per_token * 112;
        let (waiting_max, drafts) = (99, Drafts::Always);
        let tight = Settings { page_tokens, cache_bytes, waiting_max, drafts, ..settings() };
        let mut engine = engine(name, tight);
        let (mut open, mut out, mut whole) = (Open::default(), Vec::new(), 0);
        for turn in 0.. {
            if turn < 40 && next(&mut random, 2) == 0 {
                let length = 1 + next(&mut random, 40) as usize;
                let prompt = prompt(length, next(&mut random, 5));
                let work = work(&prompt, next(&mut random, 99), 1 + next(&mut random, 60) as usize);
                open.0.push((engine.submit(work.clone()).unwrap(), work, Answer::default()));
            }
            if turn < 40 && next(&mut random, 9) == 0 && !open.0.is_empty() {
                let at = next(&mut random, open.0.len() as u64) as usize;
                engine.cancel(open.0.swap_remove(at).0);
            }
            out.clear();
            engine.step(&mut out);
            check_pages(&engine);
            whole += open.hear(&out, &mut quiet);
            if turn > 40 && engine.is_idle() {
                break;
            }
            assert!(turn < 5000, "{name}: the engine does not come to an end");
        }
        assert!(open.0.is_empty() && whole > 5, "{name}: {whole} answers");
        assert_eq!(engine.pages().used, 0);
        swaps += engine.swaps();
    }
    println!("{swaps} swaps");
    assert!(swaps > 20, "{swaps} swaps are no pressure");
}
