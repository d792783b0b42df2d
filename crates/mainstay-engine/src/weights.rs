//! The tensors of a model: every one is checked against the shape the model description asks for
//! before one byte of it is used or one number allocated.
//!
//! Files come from outside and may be anything. What can go wrong is a [`LoadError`] that names the
//! file or tensor and says how to mend it. Matrices stay where they are (a mapped file, or bytes in
//! the binary) in the width they were stored, unless they are quantised: then they are laid out
//! anew for the kernels. Vectors (norms, biases) are widened to f32.
//!
//! Left out: weights that a safetensors file holds quantised (fp8, int4); they are refused by name.

mod format;
mod matrix;
mod source;

use crate::error::LoadError;
use crate::kernels::Element;
use crate::pool::Pool;
pub use format::Format;
pub use matrix::Matrix;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
pub use source::Source;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How the numbers of large matrices are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As the files have them.
    Stored,
    /// In 8 bits with a scale for each 32 (8.5 bits in all), where that is less.
    Q8,
    /// In 4 bits (4.6 in all), where that is less; in 8 where a matrix is too narrow for it.
    Q4,
}

/// All tensors of a model, by name.
pub struct Weights {
    tensors: HashMap<String, Tensor>,
    precision: Precision,
    pool: Arc<Pool>,
    parameters: usize,
}

/// One tensor: where its bytes lie, and how.
#[derive(Clone)]
pub struct Tensor {
    pub source: Arc<Source>,
    pub range: Range<usize>,
    pub shape: Vec<usize>,
    /// Or the name of a format that is not read here.
    pub format: Result<Format, String>,
}

impl Weights {
    pub fn empty() -> Weights {
        Weights {
            tensors: HashMap::new(),
            precision: Precision::Stored,
            pool: Arc::new(Pool::new(1)),
            parameters: 0,
        }
    }

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
        let mut weights = Weights::empty();
        for path in paths {
            let source = Source::map(&path)
                .map_err(|source| LoadError::Read { path: path.clone(), source })?;
            weights.add(source, &path.display().to_string())?;
        }
        Ok(weights)
    }

    /// Reads one safetensors file that is already in memory.
    pub fn from_source(source: Source) -> Result<Weights, LoadError> {
        let mut weights = Weights::empty();
        weights.add(source, "the given weights")?;
        Ok(weights)
    }

    /// How matrices shall be kept, and the threads that lay them out and then compute.
    pub fn prepared(self, precision: Precision, pool: Pool) -> Weights {
        Weights { precision, pool: Arc::new(pool), ..self }
    }

    pub fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
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
            let format = match view.dtype() {
                Dtype::F32 => Ok(Format::Rows(Element::F32)),
                Dtype::BF16 => Ok(Format::Rows(Element::Bf16)),
                Dtype::F16 => Ok(Format::Rows(Element::F16)),
                other => Err(format!("{other:?}")),
            };
            let shape = view.shape().to_vec();
            if source.bytes().get(range.clone()).is_none() && !view.data().is_empty() {
                return Err(broken(format!("tensor {name} lies outside the file")));
            }
            self.insert(name, Tensor { range, shape, format, source: source.clone() }, from)?;
            // The reader has checked that no product of a shape overflows.
            self.parameters += view.shape().iter().product::<usize>();
        }
        Ok(())
    }

    /// Adds a tensor that lies inside its source.
    pub fn insert(&mut self, name: &str, tensor: Tensor, from: &str) -> Result<(), LoadError> {
        if self.tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(LoadError::Weights(format!(
                "tensor {name} occurs twice, the second time in {from}: \
                 keep one set of weights"
            )));
        }
        Ok(())
    }

    /// Counts numbers that no safetensors file had.
    pub fn count(&mut self, parameters: usize) {
        self.parameters = self.parameters.saturating_add(parameters);
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Numbers in all tensors together.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// A matrix of exactly this shape, kept as was asked for.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let (tensor, format) = self.find(name, &[rows, columns])?;
        let matrix = match format {
            Format::Rows(element) => Matrix::rows_of(tensor, element, [rows, columns]),
            _ => Matrix::tiles_of(tensor, format, [rows, columns], &self.pool),
        };
        Ok(matrix.kept(self.precision, &self.pool))
    }

    /// A matrix of exactly this shape in rows, exact even if large ones are to be quantised.
    pub fn exact(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let (tensor, format) = self.find(name, &[rows, columns])?;
        Ok(match format {
            Format::Rows(element) => Matrix::rows_of(tensor, element, [rows, columns]),
            _ => Matrix::widened(tensor, format, [rows, columns]),
        })
    }

    /// Keeps a matrix that was made from others as was asked for.
    pub fn keep(&self, matrix: Matrix) -> Matrix {
        matrix.kept(self.precision, &self.pool)
    }

    /// A vector of exactly this length, widened to f32.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let (tensor, format) = self.find(name, &[length])?;
        let mut out = vec![0.0; length];
        format.load(tensor.bytes(), &mut out);
        Ok(out)
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<(&Tensor, Format), LoadError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(LoadError::Weights(format!(
                "tensor {name} is missing: a weights file was not downloaded, \
                 or the model's description belongs to another model"
            )));
        };
        if tensor.shape != shape {
            return Err(LoadError::Weights(format!(
                "tensor {name} has shape {:?}, the model's description asks for {shape:?}: \
                 they belong to different models",
                tensor.shape
            )));
        }
        let format = tensor.format.clone().map_err(|other| {
            LoadError::Weights(format!(
                "tensor {name} is stored as {other}: take or make weights in bf16, f16 or f32, \
                 or a GGUF file in Q8_0 or Q4_K_M"
            ))
        })?;
        let bytes = format.bytes(shape);
        if bytes != Some(tensor.range.len()) || tensor.source.bytes().len() < tensor.range.end {
            return Err(LoadError::Weights(format!(
                "tensor {name} has {} bytes, its shape {shape:?} asks for another number: \
                 download the file again",
                tensor.range.len()
            )));
        }
        if !format.is_finite(tensor.bytes(), &self.pool) {
            return Err(LoadError::Weights(format!(
                "tensor {name} holds something that is no number (NaN or infinity): the file is \
                 damaged, download it again"
            )));
        }
        Ok((tensor, format))
    }
}

impl Tensor {
    fn bytes(&self) -> &[u8] {
        &self.source.bytes()[self.range.clone()]
    }
}
