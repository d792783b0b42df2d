//! Reads safetensors files: every tensor is checked against the shape the model description asks
//! for before one byte of it is used or one number allocated.
//!
//! Files come from outside and may be anything. What can go wrong is a [`LoadError`] that names the
//! file or tensor and says how to mend it. Matrices stay where they are (a mapped file, or bytes in
//! the binary) in the width they were stored; only vectors (norms, biases) are widened to f32.
//!
//! Left out: GGUF, and weights quantised in the file (fp8, int4); they are refused by name.

mod source;

use crate::error::LoadError;
use crate::kernels::{self, Element, Rows};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
pub use source::Source;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// All tensors of a model, by name.
pub struct Weights {
    tensors: HashMap<String, Tensor>,
}

struct Tensor {
    source: Arc<Source>,
    range: Range<usize>,
    shape: Vec<usize>,
    dtype: Dtype,
}

/// A matrix of the model, stored row by row somewhere in a [`Source`].
#[derive(Clone)]
pub struct Matrix {
    source: Arc<Source>,
    range: Range<usize>,
    element: Element,
    columns: usize,
}

impl Weights {
    /// Maps every `*.safetensors` file of the directory.
    pub fn open(directory: &Path) -> Result<Weights, LoadError> {
        let read = |source| LoadError::Read { path: directory.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(LoadError::Weights(format!(
                "no *.safetensors file in {}: download the model's safetensors files into it",
                directory.display()
            )));
        }
        let mut weights = Weights { tensors: HashMap::new() };
        for path in paths {
            let source = Source::map(&path)
                .map_err(|source| LoadError::Read { path: path.clone(), source })?;
            weights.add(source, &path.display().to_string())?;
        }
        Ok(weights)
    }

    /// Reads one safetensors file that is already in memory.
    pub fn from_source(source: Source) -> Result<Weights, LoadError> {
        let mut weights = Weights { tensors: HashMap::new() };
        weights.add(source, "the given weights")?;
        Ok(weights)
    }

    fn add(&mut self, source: Source, from: &str) -> Result<(), LoadError> {
        let source = Arc::new(source);
        let broken = |reason: String| {
            LoadError::Weights(format!(
                "{from} is no whole safetensors file ({reason}): download it again"
            ))
        };
        let file = SafeTensors::deserialize(source.bytes())
            .map_err(|error| broken(format!("{error:?}")))?;
        let start = source.bytes().as_ptr() as usize;
        for (name, view) in file.iter() {
            let offset = (view.data().as_ptr() as usize).wrapping_sub(start);
            let range = offset..offset.wrapping_add(view.data().len());
            let tensor = Tensor {
                range,
                shape: view.shape().to_vec(),
                dtype: view.dtype(),
                source: source.clone(),
            };
            if source.bytes().get(tensor.range.clone()).is_none() && !view.data().is_empty() {
                return Err(broken(format!("tensor {name} lies outside the file")));
            }
            if self.tensors.insert(name.to_owned(), tensor).is_some() {
                return Err(LoadError::Weights(format!(
                    "tensor {name} occurs in two files, the second is {from}: \
                     keep one set of weights in the directory"
                )));
            }
        }
        Ok(())
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Numbers in all tensors together.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }

    /// A matrix of exactly this shape.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let (tensor, element) = self.find(name, &[rows, columns])?;
        let (source, range) = (tensor.source.clone(), tensor.range.clone());
        Ok(Matrix { source, range, element, columns })
    }

    /// A vector of exactly this length, widened to f32.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let (tensor, element) = self.find(name, &[length])?;
        let mut out = vec![0.0; length];
        kernels::load(element, &tensor.source.bytes()[tensor.range.clone()], &mut out);
        Ok(out)
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<(&Tensor, Element), LoadError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(LoadError::Weights(format!(
                "tensor {name} is missing: a weights file was not downloaded, \
                 or config.json belongs to another model"
            )));
        };
        if tensor.shape != shape {
            return Err(LoadError::Weights(format!(
                "tensor {name} has shape {:?}, config.json asks for {shape:?}: \
                 they belong to different models",
                tensor.shape
            )));
        }
        let element = match tensor.dtype {
            Dtype::F32 => Element::F32,
            Dtype::BF16 => Element::Bf16,
            Dtype::F16 => Element::F16,
            other => {
                return Err(LoadError::Weights(format!(
                    "tensor {name} is stored as {other:?}: convert the weights to bf16, f16 or f32"
                )));
            }
        };
        let numbers = shape.iter().try_fold(1usize, |all, part| all.checked_mul(*part));
        let bytes = numbers.and_then(|numbers| numbers.checked_mul(element.bytes()));
        if bytes != Some(tensor.range.len()) {
            return Err(LoadError::Weights(format!(
                "tensor {name} has {} bytes, its shape {shape:?} asks for another number: \
                 download the file again",
                tensor.range.len()
            )));
        }
        Ok((tensor, element))
    }
}

impl Matrix {
    pub fn rows(&self) -> Rows<'_> {
        let bytes = &self.source.bytes()[self.range.clone()];
        Rows { element: self.element, bytes, columns: self.columns }
    }

    pub fn height(&self) -> usize {
        self.rows().count()
    }

    /// Rows `rows` of this matrix, without a copy.
    pub fn part(&self, rows: Range<usize>) -> Matrix {
        let stride = self.columns * self.element.bytes();
        let range = self.range.start + rows.start * stride..self.range.start + rows.end * stride;
        assert!(range.end <= self.range.end);
        Matrix { range, ..self.clone() }
    }

    /// A copy with rows and columns exchanged, in the same width.
    pub fn transposed(&self) -> Matrix {
        let (height, width) = (self.height(), self.element.bytes());
        let mut bytes = vec![0; self.range.len()];
        for row in 0..height {
            let from = self.rows().row(row);
            for (column, number) in from.chunks_exact(width).enumerate() {
                let to = (column * height + row) * width;
                bytes[to..to + width].copy_from_slice(number);
            }
        }
        let range = 0..bytes.len();
        let source = Arc::new(Source::Owned(bytes));
        Matrix { source, range, element: self.element, columns: height }
    }

    /// This matrix times each vector of `x`; see [`kernels::multiply`].
    pub fn multiply(&self, x: &[f32], threads: usize) -> Vec<f32> {
        kernels::multiply(self.rows(), x, threads)
    }
}
