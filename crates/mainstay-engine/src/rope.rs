//! Rotary positions: frequencies with their published scalings, and the rotation itself.
//!
//! Two layouts exist: Llama and Qwen rotate number `i` with number `i + half`, DeepSeek rotates
//! neighbours. Sources: YaRN, arXiv:2309.00071; Llama 3.1's scaling, as in its reference code.

use crate::error::LoadError;
use serde_json::Value;

/// What `config.json` says of rotary positions.
#[derive(Clone, Debug)]
pub struct RopeShape {
    /// Numbers of a head that are rotated.
    pub size: usize,
    pub interleaved: bool,
    theta: f64,
    scaling: Scaling,
}

#[derive(Clone, Debug)]
enum Scaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    Yarn(Yarn),
    /// What each pair's frequency is divided by, as GGUF files have it worked out.
    Factors(Vec<f64>),
}

#[derive(Clone, Debug)]
struct Yarn {
    factor: f64,
    original: f64,
    fast: f64,
    slow: f64,
    mscale: f64,
    mscale_all: f64,
    attention_factor: Option<f64>,
    truncate: bool,
}

impl RopeShape {
    /// Reads both spellings: `rope_theta` with `rope_scaling`, and `rope_parameters`.
    pub fn read(config: &Value, size: usize, interleaved: bool) -> Result<RopeShape, LoadError> {
        let empty = Value::Object(serde_json::Map::new());
        let present = |name: &str| config.get(name).filter(|value| value.is_object());
        let rules = present("rope_parameters").or(present("rope_scaling")).unwrap_or(&empty);
        let theta = positive(rules, "rope_theta")?.or(positive(config, "rope_theta")?);
        let kind = rules.get("rope_type").or(rules.get("type")).and_then(Value::as_str);
        let scaling = match kind {
            None | Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: required(rules, "factor")? },
            Some("llama3") => Scaling::Llama3 {
                factor: required(rules, "factor")?,
                low: required(rules, "low_freq_factor")?,
                high: required(rules, "high_freq_factor")?,
                original: required(rules, "original_max_position_embeddings")?,
            },
            Some("yarn") => Scaling::Yarn(Yarn {
                factor: required(rules, "factor")?,
                original: required(rules, "original_max_position_embeddings")?,
                fast: positive(rules, "beta_fast")?.unwrap_or(32.0),
                slow: positive(rules, "beta_slow")?.unwrap_or(1.0),
                mscale: number(rules, "mscale")?.unwrap_or(0.0),
                mscale_all: number(rules, "mscale_all_dim")?.unwrap_or(0.0),
                attention_factor: number(rules, "attention_factor")?,
                truncate: rules.get("truncate").and_then(Value::as_bool).unwrap_or(true),
            }),
            Some("factors") => Scaling::Factors(factors(rules, size / 2)?),
            Some(other) => {
                return Err(LoadError::Config(format!(
                    "rope scaling \"{other}\" is not known; default, linear, llama3 and yarn are"
                )));
            }
        };
        let partial = number(rules, "partial_rotary_factor")?
            .or(number(config, "partial_rotary_factor")?)
            .unwrap_or(1.0);
        if partial != 1.0 {
            return Err(LoadError::Config("partial rotary positions are not supported".into()));
        }
        Ok(RopeShape { size, interleaved, theta: theta.unwrap_or(10_000.0), scaling })
    }

    /// DeepSeek's YaRN scales the softmax too, by this factor.
    pub fn softmax_scale(&self) -> f32 {
        match &self.scaling {
            Scaling::Yarn(yarn) if yarn.mscale_all != 0.0 => {
                magnitude(yarn.factor, yarn.mscale_all).powi(2) as f32
            }
            _ => 1.0,
        }
    }
}

/// Ready to rotate.
pub struct Rope {
    /// One frequency for each pair.
    frequencies: Vec<f32>,
    /// Cosine and sine are multiplied by this (YaRN).
    amplitude: f32,
    interleaved: bool,
}

/// Cosines and sines for the tokens of one step, a row of `size / 2` for each token.
pub struct Angles {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    pairs: usize,
    interleaved: bool,
}

impl Rope {
    pub fn new(shape: &RopeShape) -> Rope {
        let size = shape.size as f64;
        let plain = (0..shape.size / 2).map(|pair| shape.theta.powf(-2.0 * pair as f64 / size));
        let (frequencies, amplitude): (Vec<f64>, f64) = match &shape.scaling {
            Scaling::None => (plain.collect(), 1.0),
            Scaling::Linear { factor } => (plain.map(|plain| plain / factor).collect(), 1.0),
            Scaling::Llama3 { factor, low, high, original } => {
                let scale = |plain| llama3(plain, [*factor, *low, *high, *original]);
                (plain.map(scale).collect(), 1.0)
            }
            Scaling::Factors(factors) => {
                (plain.zip(factors).map(|(plain, factor)| plain / factor).collect(), 1.0)
            }
            Scaling::Yarn(yarn) => {
                let ramp = yarn.ramp(shape.theta, size);
                let blend = |(pair, plain)| {
                    let share: f64 = ramp(pair as f64);
                    plain / yarn.factor * share + plain * (1.0 - share)
                };
                (plain.enumerate().map(blend).collect(), yarn.amplitude())
            }
        };
        Rope {
            frequencies: frequencies.into_iter().map(|frequency| frequency as f32).collect(),
            amplitude: amplitude as f32,
            interleaved: shape.interleaved,
        }
    }

    /// Cosine and sine of each pair at each of the first positions, one after another.
    #[cfg(feature = "cuda")]
    pub fn pairs(&self, positions: usize) -> impl Iterator<Item = f32> {
        let angles = self.angles(0..positions);
        let pairs = angles.cosines.into_iter().zip(angles.sines);
        pairs.flat_map(|(cosine, sine)| [cosine, sine])
    }

    pub fn angles(&self, positions: impl Iterator<Item = usize>) -> Angles {
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f32 * frequency).sin_cos();
                cosines.push(cosine * self.amplitude);
                sines.push(sine * self.amplitude);
            }
        }
        let pairs = self.frequencies.len();
        Angles { cosines, sines, pairs, interleaved: self.interleaved }
    }
}

impl Angles {
    /// Rotates one head (`2 * pairs` numbers) of token `index` of this step.
    pub fn rotate(&self, index: usize, head: &mut [f32]) {
        let row = index * self.pairs..(index + 1) * self.pairs;
        let turns = self.cosines[row.clone()].iter().zip(&self.sines[row]);
        let turn = |x: &mut f32, y: &mut f32, cosine: f32, sine: f32| {
            (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
        };
        if self.interleaved {
            for ([x, y], (cosine, sine)) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                turn(x, y, *cosine, *sine);
            }
        } else {
            let (first, second) = head.split_at_mut(self.pairs);
            for ((x, y), (cosine, sine)) in first.iter_mut().zip(second).zip(turns) {
                turn(x, y, *cosine, *sine);
            }
        }
    }
}

impl Yarn {
    /// For each pair, how far it is interpolated: 0 keeps the frequency, 1 divides it by `factor`.
    fn ramp(&self, theta: f64, size: f64) -> impl Fn(f64) -> f64 {
        let dimension = |rotations: f64| {
            size * (self.original / (rotations * 2.0 * std::f64::consts::PI)).ln()
                / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (dimension(self.fast), dimension(self.slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(size - 1.0));
        if low == high {
            high += 0.001; // as the reference does, against a division by zero
        }
        move |pair| ((pair - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn amplitude(&self) -> f64 {
        if let Some(factor) = self.attention_factor {
            return factor;
        }
        if self.mscale != 0.0 && self.mscale_all != 0.0 {
            return magnitude(self.factor, self.mscale) / magnitude(self.factor, self.mscale_all);
        }
        magnitude(self.factor, 1.0)
    }
}

fn magnitude(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

fn llama3(plain: f64, [factor, low, high, original]: [f64; 4]) -> f64 {
    let wavelength = 2.0 * std::f64::consts::PI / plain;
    if wavelength < original / high {
        return plain;
    }
    if wavelength > original / low {
        return plain / factor;
    }
    let share = (original / wavelength - low) / (high - low);
    (1.0 - share) * plain / factor + share * plain
}

fn factors(rules: &Value, pairs: usize) -> Result<Vec<f64>, LoadError> {
    let list = rules.get("factors").and_then(Value::as_array);
    let factors: Vec<f64> = list.into_iter().flatten().filter_map(Value::as_f64).collect();
    let is_sound = |factor: &f64| factor.is_finite() && *factor > 0.0;
    if factors.len() != pairs || !factors.iter().all(is_sound) {
        return Err(LoadError::Config(format!(
            "rope scaling needs {pairs} factors above zero: take the model's own file"
        )));
    }
    Ok(factors)
}

fn number(rules: &Value, name: &str) -> Result<Option<f64>, LoadError> {
    match rules.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(LoadError::Config(format!("\"{name}\" must be a number"))),
        },
    }
}

fn positive(rules: &Value, name: &str) -> Result<Option<f64>, LoadError> {
    match number(rules, name)? {
        Some(number) if number <= 0.0 => {
            Err(LoadError::Config(format!("\"{name}\" must be above zero")))
        }
        other => Ok(other),
    }
}

fn required(rules: &Value, name: &str) -> Result<f64, LoadError> {
    positive(rules, name)?.ok_or_else(|| {
        LoadError::Config(format!(
            "rope scaling needs \"{name}\": take the model's own config.json"
        ))
    })
}
