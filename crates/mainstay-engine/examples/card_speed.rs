//! How fast a card computes: `cargo run --release -p mainstay-engine --features cuda --example
//! card_speed [product|a|b|lite|attention]...`

use mainstay_engine::LoadError;
use mainstay_engine::cuda::Card;
use mainstay_engine::cuda::bench::{self, SHAPE_A, SHAPE_B, SHAPE_LITE};

/// Positions before the token that is decoded.
const CONTEXT: usize = 1024;
/// Tokens of a prompt.
const PROMPT: usize = 4096;

fn main() -> Result<(), LoadError> {
    let card = Card::open(0, false)?;
    let (name, free, all) = card.describe();
    println!("{name}, {} of {} MiB free", free >> 20, all >> 20);
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    if is_asked("product") {
        println!("copy: {:.0} GB/s read and written", bench::copy_rate(&card)?);
        products()?;
    }
    for (name, config, active, positions) in [
        ("a", SHAPE_A, 596e6, 128 << 10),
        ("b", SHAPE_B, 252e6, 128 << 10),
        ("lite", SHAPE_LITE, 2.45e9, 128 << 10),
    ] {
        if is_asked(name) {
            shape((name, config), active, positions)?;
        }
    }
    if is_asked("attention") {
        attention()?;
    }
    Ok(())
}

fn products() -> Result<(), LoadError> {
    for (tokens, rows, columns) in [
        (8192, 8192, 8192),
        (4096, 3072, 1024),
        (4096, 1024, 1024),
        (64, 8192, 8192),
        (64, 4096, 1024),
        (1, 8192, 8192),
        (1, 3072, 512),
        (1, 1024, 2048),
        (1, 1024, 1024),
        (1, 64, 1024),
    ] {
        let time = bench::product(tokens, [rows, columns])?;
        let operations = 2.0 * tokens as f32 * rows as f32 * columns as f32;
        println!(
            "product {tokens} x {columns} x {rows}: {time:.4} ms, {:.0} TFLOP/s, {:.0} GB/s",
            operations / time / 1e9,
            2.0 * rows as f32 * columns as f32 / time / 1e6
        );
    }
    Ok(())
}

fn shape((name, config): (&str, &str), active: f32, positions: usize) -> Result<(), LoadError> {
    let mut model = bench::model(config, (0, positions, PROMPT))?;
    for batch in [1, 8, 64] {
        let (on_card, whole) = bench::decode(&mut model, batch, CONTEXT);
        println!(
            "{name}: decode of {batch}: {on_card:.3} ms on the card, {:.0} tokens/s, {:.0} GB/s \
             for one's weights; {whole:.3} ms with logits on the host",
            batch as f32 * 1e3 / on_card,
            2.0 * active / on_card / 1e6
        );
    }
    let time = bench::prefill(&mut model, PROMPT);
    println!(
        "{name}: prefill of {PROMPT}: {time:.2} ms, {:.0} tokens/s, {:.0} TFLOP/s in weights alone",
        PROMPT as f32 * 1e3 / time,
        2.0 * active * PROMPT as f32 / time / 1e9
    );
    Ok(())
}

/// Latent attention alone, over long contexts.
fn attention() -> Result<(), LoadError> {
    let (batch, length) = (64, 32 << 10);
    let mut model = bench::model(SHAPE_B, (1, batch * length, 64))?;
    let time = bench::attention(&mut model, batch, length);
    let bytes = batch as f32 * length as f32 * 576.0 * 2.0;
    println!(
        "latent attention, {batch} contexts of {length}: {time:.3} ms, {:.0} GB/s",
        bytes / time / 1e6
    );
    Ok(())
}
