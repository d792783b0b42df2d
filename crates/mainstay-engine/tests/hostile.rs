//! Mangled model files give errors: no panic, no absurd allocation, whatever the mangling. The
//! short form of `examples/engine_fuzz`.
//!
//! Files that still load are run for a few steps, because a lie in them may bite only then.

#[path = "../examples/engine_fuzz/mangle.rs"]
mod mangle;

use mangle::Corpus;

const ROUNDS: u64 = 900;

fn check(mut corpus: Corpus, what: &str) {
    mangle::count_panics();
    (0..ROUNDS).for_each(|seed| corpus.round(seed));
    println!("{} of {ROUNDS} mangled {what} still loaded and ran", corpus.loaded);
    assert!(corpus.loaded > 0 && corpus.loaded < ROUNDS as usize);
    assert!(corpus.said() > 20, "{} different outcomes", corpus.said());
}

#[test]
fn mangled_gguf_files_never_panic_and_never_ask_for_absurd_memory() {
    check(Corpus::gguf(), "GGUF files");
}

#[test]
fn mangled_directories_never_panic_and_never_ask_for_absurd_memory() {
    check(Corpus::directories(), "directories");
}
