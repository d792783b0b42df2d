//! Reads GGUF files: one file with a model's description, tokenizer, chat template and weights.
//!
//! Format: docs/gguf.md of the ggml project. What is read is turned into what a model directory
//! has (`config.json`, `tokenizer.json`, tensors by their published names), so that behind this
//! module there is one kind of model.
//!
//! Files come from outside and may be anything: every length is checked against the bytes that are
//! there before anything is allocated for it, lists are walked where they lie, and no count is
//! taken on trust.
//!
//! Left out: files in several parts, byte orders other than little, and block formats beyond
//! `Q8_0`, `Q4_K` and `Q6_K`; they are refused by name.

mod describe;
mod names;
mod read;
mod text;

use crate::error::LoadError;
use crate::weights::{Source, Weights};
use read::Content;
use std::sync::Arc;

/// What a GGUF file holds, as the files of a model directory.
pub struct Gguf {
    /// Like `config.json`.
    pub config: Vec<u8>,
    /// Like `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// Like `tokenizer_config.json`.
    pub tokenizer_config: Vec<u8>,
    pub weights: Weights,
}

impl Gguf {
    /// Reads a file. `tokenizer`, if not empty, is a `tokenizer.json` that goes before the file's
    /// own; `from` names the file in errors.
    pub fn read(source: Source, tokenizer: &[u8], from: &str) -> Result<Gguf, LoadError> {
        let source = Arc::new(source);
        let content = Content::read(source.bytes()).map_err(|reason| {
            LoadError::Weights(format!(
                "{from} is no whole GGUF file ({reason}): download it again"
            ))
        })?;
        let config = describe::config(&content)?;
        let tokenizer = match tokenizer.is_empty() {
            true => text::tokenizer(&content)?,
            false => tokenizer.to_vec(),
        };
        let tokenizer_config = text::tokenizer_config(&content);
        let mut weights = Weights::empty();
        names::add_tensors(&content, &source, &mut weights)?;
        let bytes = |value: serde_json::Value| value.to_string().into_bytes();
        let (config, tokenizer_config) = (bytes(config), bytes(tokenizer_config));
        Ok(Gguf { config, tokenizer, tokenizer_config, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use crate::weights::{Format, Precision, Tensor};

    const BLOCKS: &[u8] = include_bytes!("../tests/fixtures/blocks.gguf");

    #[test]
    fn blocks_are_the_numbers_that_the_formats_own_reference_makes_of_them() {
        let source = Arc::new(Source::Static(BLOCKS));
        let content = Content::read(BLOCKS).unwrap();
        let cases = [("Q8_0", Format::Q8_0), ("Q4_K", Format::Q4K), ("Q6_K", Format::Q6K)];
        for (name, format) in cases {
            let entry = content.tensor(name).unwrap();
            let numbers = content.tensor(&format!("{name}.numbers")).unwrap();
            let range = numbers.range(2 * 512 * 4, BLOCKS).unwrap();
            let expected: Vec<f32> = BLOCKS[range]
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            let range = entry.range(format.bytes(&entry.shape).unwrap(), BLOCKS).unwrap();
            let mut loaded = vec![0.0; expected.len()];
            format.load(&BLOCKS[range.clone()], &mut loaded);
            let scale = expected.iter().fold(0.0f32, |highest, x| highest.max(x.abs()));
            let near = |ours: &[f32], share: f32| {
                let pairs = ours.iter().zip(&expected);
                pairs.for_each(|(a, b)| assert!((a - b).abs() <= scale * share, "{name} {a} {b}"));
            };
            near(&loaded, 1e-6);
            // In tiles: the same numbers.
            let tensor = Tensor {
                source: source.clone(),
                range,
                shape: entry.shape.clone(),
                format: Ok(format),
            };
            let mut weights = Weights::empty().prepared(Precision::Stored, Pool::new(1));
            weights.insert("it", tensor, "here").unwrap();
            let matrix = weights.matrix("it", 2, 512).unwrap();
            assert!(matrix.rows().is_none(), "it is in tiles");
            (0..2).for_each(|row| matrix.row(row, &mut loaded[row * 512..][..512]));
            near(&loaded, 1e-6);
        }
    }
}
