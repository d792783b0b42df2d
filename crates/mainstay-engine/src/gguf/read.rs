//! The container: keys with values, and where each tensor lies.

use std::collections::HashMap;
use std::ops::Range;

/// What a file holds. Texts and lists stay where they lie.
pub struct Content<'a> {
    pub values: HashMap<&'a str, Value<'a>>,
    pub tensors: Vec<Entry<'a>>,
    bytes: &'a [u8],
}

/// The value of a key.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Whole(i128),
    Real(f64),
    Flag(bool),
    Text(&'a str),
    List(List<'a>),
}

/// A list of single values, checked but not yet taken apart.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    kind: u32,
    pub count: usize,
    bytes: &'a [u8],
}

/// One tensor of the file.
pub struct Entry<'a> {
    pub name: &'a str,
    /// Rows before columns, unlike in the file.
    pub shape: Vec<usize>,
    pub kind: u32,
    /// From here on; how many bytes depends on the format.
    pub start: usize,
}

/// Published files have some dozen keys, and some thousand tensors.
const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 20;

/// The format's own bound is four.
const MAX_DIMENSIONS: u32 = 4;

/// Far more than half a head's numbers, of which such vectors have one each.
const MAX_VECTOR: usize = 1 << 16;

/// If the file does not say otherwise.
const ALIGNMENT: usize = 32;

const TEXT: u32 = 8;
const LIST: u32 = 9;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken =
            taken.ok_or_else(|| format!("it ends within {count} bytes from {}", self.at))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn size(&mut self) -> Result<usize, String> {
        usize::try_from(self.u64()?).map_err(|_| "a size is beyond all memory".into())
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let length = self.size()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "a text is not UTF-8".into())
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>, String> {
        Ok(match kind {
            0 => Value::Whole(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Whole(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Whole(self.u32()?.into()),
            5 => Value::Whole(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Real(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Flag(self.array::<1>()? != [0]),
            TEXT => Value::Text(self.text()?),
            LIST => Value::List(self.list()?),
            10 => Value::Whole(self.u64()?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Real(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("{other} is no kind of value")),
        })
    }

    fn list(&mut self) -> Result<List<'a>, String> {
        let (kind, count) = (self.u32()?, self.size()?);
        if kind == LIST {
            return Err("a list holds lists".into());
        }
        let start = self.at;
        // Every value takes a byte at least, so this ends with the file, whatever the count says.
        for _ in 0..count {
            self.value(kind)?;
        }
        Ok(List { kind, count, bytes: &self.bytes[start..self.at] })
    }
}

impl<'a> List<'a> {
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (kind, count) = (self.kind, self.count);
        let mut cursor = Cursor { bytes: self.bytes, at: 0 };
        (0..count).map_while(move |_| cursor.value(kind).ok())
    }
}

impl<'a> Content<'a> {
    /// Reads everything but the tensors' bytes. Errors say what is wrong.
    pub fn read(bytes: &'a [u8]) -> Result<Content<'a>, String> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4)? != b"GGUF" {
            return Err("it does not begin with \"GGUF\"".into());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("it has version {version}, 2 and 3 are known"));
        }
        let (tensor_count, key_count) = (cursor.u64()?, cursor.u64()?);
        if tensor_count > MAX_TENSORS || key_count > MAX_KEYS {
            return Err(format!("it claims {tensor_count} tensors and {key_count} keys"));
        }
        let mut values = HashMap::new();
        for _ in 0..key_count {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            if values.insert(key, cursor.value(kind)?).is_some() {
                return Err(format!("key {key} occurs twice"));
            }
        }
        let mut content = Content { values, tensors: Vec::new(), bytes };
        let mut offsets = Vec::new();
        for _ in 0..tensor_count {
            let (entry, offset) = content.entry(&mut cursor)?;
            content.tensors.push(entry);
            offsets.push(offset);
        }
        let alignment = content.alignment()?;
        let start = cursor.at.checked_next_multiple_of(alignment).ok_or("it has no end")?;
        for (entry, offset) in content.tensors.iter_mut().zip(offsets) {
            if offset % alignment != 0 {
                return Err(format!(
                    "tensor {} does not lie at a multiple of {alignment}",
                    entry.name
                ));
            }
            let place = start.checked_add(offset).filter(|place| *place <= bytes.len());
            entry.start =
                place.ok_or_else(|| format!("tensor {} lies beyond its end", entry.name))?;
        }
        Ok(content)
    }

    fn entry(&self, cursor: &mut Cursor<'a>) -> Result<(Entry<'a>, usize), String> {
        let name = cursor.text()?;
        let dimensions = cursor.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor {name} has {dimensions} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.insert(0, cursor.size()?);
        }
        let numbers = shape.iter().try_fold(1usize, |all, part| all.checked_mul(*part));
        if numbers.is_none_or(|numbers| numbers == 0) {
            return Err(format!("tensor {name} has shape {shape:?}"));
        }
        let (kind, offset) = (cursor.u32()?, cursor.size()?);
        Ok((Entry { name, shape, kind, start: 0 }, offset))
    }

    fn alignment(&self) -> Result<usize, String> {
        match self.values.get("general.alignment") {
            None => Ok(ALIGNMENT),
            Some(Value::Whole(alignment @ 1..=0x10_0000)) if alignment.count_ones() == 1 => {
                Ok(*alignment as usize)
            }
            Some(other) => Err(format!("its alignment is {other:?}")),
        }
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn list(&self, key: &str) -> Option<List<'a>> {
        match self.values.get(key) {
            Some(Value::List(list)) => Some(*list),
            _ => None,
        }
    }

    pub fn whole(&self, key: &str) -> Option<i128> {
        match self.values.get(key) {
            Some(Value::Whole(number)) => Some(*number),
            _ => None,
        }
    }

    pub fn tensor(&self, name: &str) -> Option<&Entry<'a>> {
        self.tensors.iter().find(|entry| entry.name == name)
    }

    /// The numbers of a short vector stored as f32.
    pub fn vector(&self, name: &str) -> Option<Vec<f32>> {
        let entry = self.tensor(name).filter(|entry| entry.kind == 0)?;
        let [count @ 0..=MAX_VECTOR] = entry.shape[..] else { return None };
        let bytes = &self.bytes[entry.range(count * 4, self.bytes)?];
        Some(bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }
}

impl Entry<'_> {
    /// Where its bytes are, if there are `count` of them in the file.
    pub fn range(&self, count: usize, file: &[u8]) -> Option<Range<usize>> {
        let end = self.start.checked_add(count)?;
        (end <= file.len()).then_some(self.start..end)
    }
}
