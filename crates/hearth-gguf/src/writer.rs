//! Writes GGUF version 3. Names, types and shapes are declared first, because the directory stands before the data;
//! then the data of one tensor after the other is streamed, so a model larger than memory can be written.
//!
//! What is written is checked by the same rules as what is read: a file of ours opens.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use crate::{
    error::{GgufError, Place},
    limits::*,
    parse::{Shape, data_bytes},
    tensor_type::TensorType,
    value::{Array, Value},
};

/// Declares the content of a file.
///
/// ```
/// use hearth_gguf::{Gguf, GgufWriter, TensorType};
///
/// let mut writer = GgufWriter::new();
/// writer.add_value("general.architecture", "llama")?;
/// writer.add_tensor("output.weight", TensorType::F32, &[2, 3])?;
/// let mut body = writer.begin(Vec::new())?;
/// body.write_tensor(&[0; 24])?;
/// let bytes = body.finish()?;
///
/// let model = Gguf::from_vec(bytes)?;
/// assert_eq!(model.tensors()[0].shape, [2, 3]);
/// # Ok::<(), hearth_gguf::GgufError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    values: Vec<(String, Value)>,
    keys: HashSet<String>,
    tensors: Vec<Declared>,
    names: HashSet<String>,
    alignment: Option<u32>,
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    ty: TensorType,
    shape: Vec<u64>,
    n_bytes: u64,
}

impl GgufWriter {
    /// A file with nothing in it and the default alignment.
    #[must_use]
    pub fn new() -> GgufWriter {
        GgufWriter::default()
    }

    /// Makes tensor data begin at multiples of `alignment`, and says so in the metadata.
    ///
    /// # Errors
    /// When it is no power of two or above the limit.
    pub fn set_alignment(&mut self, alignment: u32) -> Result<(), GgufError> {
        if !alignment.is_power_of_two() || u64::from(alignment) > MAX_ALIGNMENT {
            return Err(GgufError::Alignment {
                found: alignment.into(),
                limit: MAX_ALIGNMENT,
            });
        }
        if self.alignment.is_none() && !self.keys.insert(ALIGNMENT_KEY.to_owned()) {
            return Err(duplicate_key(ALIGNMENT_KEY));
        }
        self.alignment = Some(alignment);
        Ok(())
    }

    /// Adds a metadata entry; entries are written in the order they are added.
    ///
    /// # Errors
    /// When the key is empty, too long, or there already. `general.alignment` belongs to
    /// [`set_alignment`](Self::set_alignment) and must be an integer here.
    pub fn add_value(&mut self, key: &str, value: impl Into<Value>) -> Result<(), GgufError> {
        let index = self.values.len() as u64;
        let value = value.into();
        check_count("metadata entries", index, MAX_KEYS)?;
        if key.is_empty() {
            return Err(GgufError::EmptyKey { index, offset: 0 });
        }
        check_name_len(Place::KeyNumber(index), key, MAX_KEY_BYTES)?;
        if key == ALIGNMENT_KEY {
            let found = value
                .as_integer()
                .and_then(|v| u32::try_from(v).ok())
                .unwrap_or(0);
            return self.set_alignment(found);
        }
        if !self.keys.insert(key.to_owned()) {
            return Err(duplicate_key(key));
        }
        self.values.push((key.to_owned(), value));
        Ok(())
    }

    /// Declares a tensor: `shape` is row-major, outermost dimension first. Returns the bytes its data must have.
    ///
    /// # Errors
    /// When a file with it could not be read back: a bad name, a bad shape, rows that are not whole blocks.
    pub fn add_tensor(
        &mut self,
        name: &str,
        ty: TensorType,
        shape: &[u64],
    ) -> Result<u64, GgufError> {
        let (index, offset) = (self.tensors.len() as u64, 0);
        check_count("tensors", index, MAX_TENSORS)?;
        let tensor = || name.to_owned();
        if name.is_empty() {
            return Err(GgufError::EmptyName { index, offset });
        }
        check_name_len(Place::TensorNumber(index), name, MAX_NAME_BYTES)?;
        if shape.is_empty() || shape.len() > MAX_DIMS as usize {
            let found = u32::try_from(shape.len()).unwrap_or(u32::MAX);
            return Err(GgufError::DimensionCount {
                tensor: tensor(),
                found,
                limit: MAX_DIMS,
                offset,
            });
        }
        if let Some(dimension) = shape.iter().rev().position(|&size| size == 0) {
            return Err(GgufError::ZeroDimension {
                tensor: tensor(),
                dimension: dimension as u32,
                offset,
            });
        }
        let n_bytes = data_bytes(ty, shape).map_err(|shape_error| match shape_error {
            Shape::PartialBlock(n_cols) => GgufError::PartialBlock {
                tensor: tensor(),
                ty,
                n_cols,
                offset,
            },
            Shape::Overflow => GgufError::ShapeOverflow {
                tensor: tensor(),
                shape: shape.to_vec(),
                offset,
            },
        })?;
        if !self.names.insert(tensor()) {
            return Err(GgufError::DuplicateTensor { name: tensor() });
        }
        self.tensors.push(Declared {
            name: tensor(),
            ty,
            shape: shape.to_vec(),
            n_bytes,
        });
        Ok(n_bytes)
    }

    /// Writes the head, and hands back what takes the data.
    ///
    /// # Errors
    /// When the output refuses bytes, or the data together exceeds 63 bits.
    pub fn begin<W: Write>(self, out: W) -> Result<GgufBody<W>, GgufError> {
        let alignment = self.alignment.map_or(DEFAULT_ALIGNMENT, u64::from);
        let mut out = Counted { out, written: 0 };
        self.write_head(&mut out, alignment)?;
        let mut body = GgufBody {
            out,
            alignment,
            tensors: self.tensors,
            next: 0,
        };
        if !body.tensors.is_empty() {
            body.pad()?;
        }
        Ok(body)
    }

    fn write_head<W: Write>(&self, out: &mut Counted<W>, alignment: u64) -> Result<(), GgufError> {
        let n_keys = self.values.len() as u64 + u64::from(self.alignment.is_some());
        out.put(b"GGUF")?;
        out.put(&3_u32.to_le_bytes())?;
        out.put(&(self.tensors.len() as u64).to_le_bytes())?;
        out.put(&n_keys.to_le_bytes())?;
        if let Some(alignment) = self.alignment {
            put_entry(out, ALIGNMENT_KEY, &Value::U32(alignment))?;
        }
        for (key, value) in &self.values {
            put_entry(out, key, value)?;
        }
        let mut offset = 0_u64;
        for Declared {
            name,
            ty,
            shape,
            n_bytes,
        } in &self.tensors
        {
            out.put_string(name.as_bytes())?;
            out.put(&(shape.len() as u32).to_le_bytes())?;
            for size in shape.iter().rev() {
                out.put(&size.to_le_bytes())?;
            }
            out.put(&ty.id().to_le_bytes())?;
            out.put(&offset.to_le_bytes())?;
            offset = offset
                .checked_add(*n_bytes)
                .and_then(|end| end.checked_next_multiple_of(alignment))
                .filter(|&end| end <= i64::MAX as u64)
                .ok_or_else(|| GgufError::ShapeOverflow {
                    tensor: name.clone(),
                    shape: shape.clone(),
                    offset: 0,
                })?;
        }
        Ok(())
    }
}

const ALIGNMENT_KEY: &str = "general.alignment";

/// Takes the data of the declared tensors, in the order of their declaration.
#[derive(Debug)]
#[must_use = "the file is complete only after finish()"]
pub struct GgufBody<W: Write> {
    out: Counted<W>,
    alignment: u64,
    tensors: Vec<Declared>,
    next: usize,
}

impl<W: Write> GgufBody<W> {
    /// Writes the data of the next tensor.
    ///
    /// # Errors
    /// When it has another size than the tensor, or the output refuses it.
    pub fn write_tensor(&mut self, data: &[u8]) -> Result<(), GgufError> {
        let tensor = self.take_next()?;
        if tensor.n_bytes != data.len() as u64 {
            let found = data.len() as u64;
            return Err(GgufError::WrongDataSize {
                tensor: tensor.name.clone(),
                expected: tensor.n_bytes,
                found,
            });
        }
        self.out.put(data)?;
        self.pad()
    }

    /// Copies the data of the next tensor from a reader, which must end exactly where the tensor does.
    ///
    /// # Errors
    /// When it has another size than the tensor, or either side fails.
    pub fn write_tensor_from(&mut self, data: &mut dyn io::Read) -> Result<(), GgufError> {
        let tensor = self.take_next()?;
        let (name, expected) = (tensor.name.clone(), tensor.n_bytes);
        // One byte more than expected is enough to know that there is more.
        let found = io::copy(
            &mut io::Read::take(data, expected.saturating_add(1)),
            &mut self.out,
        )
        .map_err(GgufError::Write)?;
        if found != expected {
            return Err(GgufError::WrongDataSize {
                tensor: name,
                expected,
                found,
            });
        }
        self.pad()
    }

    fn take_next(&mut self) -> Result<&Declared, GgufError> {
        let tensor = self
            .tensors
            .get(self.next)
            .ok_or(GgufError::UndeclaredTensor {
                count: self.tensors.len(),
            })?;
        self.next += 1;
        Ok(tensor)
    }

    /// Zeros up to the next multiple of the alignment.
    fn pad(&mut self) -> Result<(), GgufError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut missing = self.out.written.next_multiple_of(self.alignment) - self.out.written;
        while missing > 0 {
            let n = missing.min(ZEROS.len() as u64);
            self.out.put(&ZEROS[..n as usize])?;
            missing -= n;
        }
        Ok(())
    }

    /// Flushes, and hands the output back.
    ///
    /// # Errors
    /// When the data of a declared tensor was not written.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let Some(tensor) = self.tensors.get(self.next) {
            return Err(GgufError::UnwrittenTensor {
                tensor: tensor.name.clone(),
            });
        }
        self.out.out.flush().map_err(GgufError::Write)?;
        Ok(self.out.out)
    }
}

/// An output that knows how much went through it.
#[derive(Debug)]
struct Counted<W> {
    out: W,
    written: u64,
}

impl<W: Write> Counted<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), GgufError> {
        self.write_all(bytes).map_err(GgufError::Write)
    }

    fn put_string(&mut self, bytes: &[u8]) -> Result<(), GgufError> {
        self.put(&(bytes.len() as u64).to_le_bytes())?;
        self.put(bytes)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn put_entry<W: Write>(out: &mut Counted<W>, key: &str, value: &Value) -> Result<(), GgufError> {
    out.put_string(key.as_bytes())?;
    out.put(&value.value_type().id().to_le_bytes())?;
    match value {
        Value::U8(v) => out.put(&[*v]),
        Value::I8(v) => out.put(&v.to_le_bytes()),
        Value::U16(v) => out.put(&v.to_le_bytes()),
        Value::I16(v) => out.put(&v.to_le_bytes()),
        Value::U32(v) => out.put(&v.to_le_bytes()),
        Value::I32(v) => out.put(&v.to_le_bytes()),
        Value::U64(v) => out.put(&v.to_le_bytes()),
        Value::I64(v) => out.put(&v.to_le_bytes()),
        Value::F32(v) => out.put(&v.to_le_bytes()),
        Value::F64(v) => out.put(&v.to_le_bytes()),
        Value::Bool(v) => out.put(&[u8::from(*v)]),
        Value::String(v) => out.put_string(v.as_bytes()),
        Value::Bytes(v) => out.put_string(v),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array<W: Write>(out: &mut Counted<W>, array: &Array) -> Result<(), GgufError> {
    out.put(&array.element_type().id().to_le_bytes())?;
    out.put(&(array.len() as u64).to_le_bytes())?;
    match array {
        Array::U8(v) => out.put(v),
        Array::I8(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::U16(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::I16(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::U32(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::I32(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::U64(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::I64(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::F32(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::F64(v) => v.iter().try_for_each(|x| out.put(&x.to_le_bytes())),
        Array::Bool(v) => v.iter().try_for_each(|&x| out.put(&[u8::from(x)])),
        Array::String(v) => v.iter().try_for_each(|x| out.put_string(x)),
    }
}

fn check_count(what: &'static str, count: u64, limit: u64) -> Result<(), GgufError> {
    if count < limit {
        Ok(())
    } else {
        Err(GgufError::CountLimit {
            what,
            count: count + 1,
            limit,
            offset: 0,
        })
    }
}

fn check_name_len(place: Place, name: &str, limit: u64) -> Result<(), GgufError> {
    let len = name.len() as u64;
    if len <= limit {
        Ok(())
    } else {
        Err(GgufError::NameTooLong {
            place,
            len,
            limit,
            offset: 0,
        })
    }
}

fn duplicate_key(key: &str) -> GgufError {
    GgufError::DuplicateKey {
        key: key.to_owned(),
        first: 0,
        second: 0,
    }
}
