//! Models from GGUF files: the same answers as from a directory, and a clear error for each file
//! that is wrong.

use crate::fixture::{Answer, engine, greedy, prompt, read, run, settings, work};
use mainstay_engine::{Engine, LoadError, Precision, Sampling, Settings, Work};
use serde_json::json;

const ALL: [&str; 6] = ["deepseek-v3", "deepseek-v2", "llama3", "qwen2", "qwen3", "qwen3-moe"];

fn gguf(name: &str, settings: Settings) -> Engine {
    let file = read(name, "model.gguf");
    Engine::from_gguf(name, file.into(), settings).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn error(file: Vec<u8>) -> String {
    let result = Engine::from_gguf("a file", file.into(), settings());
    result.err().expect("the file is wrong").to_string()
}

#[test]
fn greedy_tokens_from_a_gguf_file_are_those_of_the_reference() {
    for name in ALL {
        let (prompt, expected) = greedy(name);
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let work = Work { prompt, sampling, max_tokens: expected.len(), ..Work::default() };
        let answer = run(&mut gguf(name, settings()), vec![work]).remove(0);
        assert_eq!(answer.tokens, expected, "{name}");
    }
}

#[test]
fn tokenizer_and_template_come_out_of_the_file() {
    let (from_file, usual) = (gguf("qwen3", settings()), engine("qwen3", settings()));
    assert_eq!(from_file.model(), usual.model());
    let messages = json!([{"role": "user", "content": "Hello, na\u{ef}ve \u{4e16}\u{754c}! 123"}]);
    let text = from_file.render_chat(&messages, None, true).unwrap();
    assert_eq!(text, usual.render_chat(&messages, None, true).unwrap());
    assert_eq!(from_file.tokenize(&text), usual.tokenize(&text));
}

#[test]
fn quantised_tokens_do_not_depend_on_batch_mates_chunks_pages_or_threads() {
    for name in ["deepseek-v3", "qwen3", "qwen3-moe"] {
        let quantised = Settings { weights: Precision::Q8, ..settings() };
        let works = || -> Vec<Work> {
            let of = |(length, salt)| work(&prompt(length, salt), salt, 24);
            [(5, 1), (70, 2), (19, 3)].map(of).into()
        };
        let mut one = gguf(name, quantised.clone());
        let alone: Vec<Answer> =
            works().into_iter().map(|work| run(&mut one, vec![work]).remove(0)).collect();
        for (prefill_chunk, page_tokens, threads) in [(1, 1, 1), (13, 5, 2), (512, 32, 3)] {
            let changed = Settings { prefill_chunk, page_tokens, threads, ..quantised.clone() };
            assert_eq!(run(&mut gguf(name, changed), works()), alone, "{name} {prefill_chunk}");
        }
    }
}

#[test]
fn a_file_beside_its_tokenizer_is_loaded_by_its_path() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("a-gguf");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("tiny.gguf");
    std::fs::write(&path, changed("qwen3", b"gpt2", b"llam")).unwrap();
    let beside = directory.join("tokenizer.json");
    let _ = std::fs::remove_file(&beside);
    let error = Engine::load(&path, settings()).err().unwrap().to_string();
    assert!(error.contains("\"llam\"") && error.contains("tokenizer.json beside"), "{error}");
    std::fs::write(&beside, read("tokenizer", "tokenizer.json")).unwrap();
    let loaded = Engine::load(&path, settings()).unwrap();
    assert_eq!((loaded.model().name.as_str(), loaded.tokenize("<user>")), ("tiny", vec![3]));
}

/// The fixture's file with the first occurrence of some bytes replaced by as many others.
fn changed(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = read(name, "model.gguf");
    let at = file.windows(from.len()).position(|window| window == from).expect("it is there");
    file[at..at + to.len()].copy_from_slice(to);
    file
}

/// The place just behind the first occurrence of some bytes.
fn behind(file: &[u8], key: &[u8]) -> usize {
    file.windows(key.len()).position(|window| window == key).expect("it is there") + key.len()
}

#[test]
fn each_wrong_file_gets_an_error_that_says_what_is_wrong() {
    let whole = read("qwen3", "model.gguf");
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty", Vec::new(), "ends within"),
        ("no GGUF", b"nothing of the kind".to_vec(), "does not begin with"),
        ("cut in its keys", whole[..300].to_vec(), "ends within"),
        ("cut in its tensors", whole[..whole.len() - 1000].to_vec(), "cut short"),
        ("other architecture", changed("qwen3", b"qwen3", b"mamba"), "\"mamba\""),
        (
            "no tokenizer",
            changed("qwen3", b"tokenizer.ggml.model", b"tokenizer.ggml.nodel"),
            "no tokenizer",
        ),
        ("other rules", changed("qwen3", b"gpt-2", b"xlm-r"), "\"xlm-r\""),
        (
            "no tensor",
            changed("qwen3", b"blk.1.ffn_up", b"blk.1.ffn_xx"),
            "up_proj.weight is missing",
        ),
        (
            "no layers",
            changed("qwen3", b"qwen3.block_count", b"qwen3.block_kount"),
            "num_hidden_layers",
        ),
    ];
    for (what, file, expected) in cases {
        let error = error(file);
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[test]
fn sizes_of_2_to_the_60_are_refused_without_asking_for_memory() {
    let whole = read("qwen3", "model.gguf");
    let huge = (1u64 << 60).to_le_bytes();
    let with = |at: usize| {
        let mut file = whole.clone();
        file[at..at + 8].copy_from_slice(&huge);
        error(file)
    };
    assert!(with(8).contains("claims"), "tensors");
    assert!(with(16).contains("claims"), "keys");
    // Length of the first key; length of a list (behind its kind and its values' kind).
    assert!(with(24).contains("ends within"));
    assert!(with(behind(&whole, b"tokenizer.ggml.tokens") + 8).contains("ends within"));
    // Columns of a matrix (behind the count of dimensions), and the place of its bytes.
    let matrix = behind(&whole, b"token_embd.weight");
    assert!(with(matrix + 4).contains("token_embd.weight"));
    assert!(with(matrix + 4 + 16 + 4).contains("beyond its end"));
    // A context of 2^60 tokens, and a model of as many layers.
    let mut file = whole.clone();
    let at = behind(&file, b"qwen3.block_count");
    file[at + 4..at + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(error(file).contains("num_hidden_layers"));
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let mut file = read("qwen3", "model.gguf");
    let end = file.len();
    file[end - 2..].copy_from_slice(&0x7e00u16.to_le_bytes()); // f16 NaN, or the end of padding
    let broken = {
        let mut file = file.clone();
        file[end - 4000..].chunks_exact_mut(2).for_each(|half| half.copy_from_slice(&[0, 0x7e]));
        file
    };
    let error = error(broken);
    assert!(error.contains("NaN") && error.contains("tensor model."), "{error}");

    let mut weights = read("qwen2", "model.safetensors");
    let end = weights.len();
    weights[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes()); // bf16 NaN
    let (config, tokenizer) = (read("qwen2", "config.json"), read("tokenizer", "tokenizer.json"));
    let files = mainstay_engine::Files {
        name: "qwen2",
        config: &config,
        weights: weights.into(),
        tokenizer: &tokenizer,
        ..mainstay_engine::Files::default()
    };
    let error = Engine::from_files(files, settings()).err().unwrap();
    assert!(matches!(&error, LoadError::Weights(text) if text.contains("NaN")), "{error}");
}

#[test]
fn a_vocabulary_that_is_not_the_models_is_refused() {
    // 320 tokens, of which the embedding has rows for fewer: the shape says 64 x 319.
    let mut file = read("qwen3", "model.gguf");
    let at = behind(&file, b"token_embd.weight") + 4 + 8;
    file[at..at + 8].copy_from_slice(&319u64.to_le_bytes());
    let error = error(file);
    assert!(error.contains("319") && error.contains("different models"), "{error}");
}
