//! One file's head: header, metadata, tensor directory. Every number is checked before it is believed.

use crate::{
    cursor::{Cursor, Short},
    error::{GgufError, Place},
    limits::*,
    metadata::{Entry, Metadata},
    sniff,
    tensor::TensorInfo,
    tensor_type::TensorType,
    value::{Array, StringArray, Value, ValueType},
};

/// What one file says.
pub(crate) struct Head {
    pub version: u32,
    pub alignment: u64,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
}

/// Reads and checks the head of a file and the places of its tensors.
pub(crate) fn parse(bytes: &[u8], file: u32) -> Result<Head, GgufError> {
    let mut cursor = Cursor::new(bytes);
    let version = magic_and_version(bytes, &mut cursor)?;
    let n_tensors = count(&mut cursor, "tensors", MAX_TENSORS)?;
    let n_keys = count(&mut cursor, "metadata entries", MAX_KEYS)?;
    fits(&cursor, "metadata entries", n_keys, MIN_KEY_ENTRY_BYTES, 16)?;
    fits(&cursor, "tensors", n_tensors, MIN_TENSOR_ENTRY_BYTES, 8)?;

    // Bounded by MAX_KEYS; without a capacity, growing would need half as much again.
    let mut entries = Vec::with_capacity(n_keys as usize);
    for index in 0..n_keys {
        entries.push(entry(&mut cursor, index)?);
    }
    let metadata = Metadata::from_entries(entries)?;
    let alignment = alignment(&metadata)?;

    // Grows with what is really there: the count alone could ask for 80 MB.
    let mut tensors = Vec::new();
    for index in 0..n_tensors {
        tensors.push(tensor(&mut cursor, index, alignment, file)?);
    }
    place_data(&mut tensors, cursor.offset(), bytes.len() as u64, alignment)?;
    Ok(Head {
        version,
        alignment,
        metadata,
        tensors,
    })
}

fn magic_and_version(bytes: &[u8], cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    if bytes.is_empty() {
        return Err(GgufError::Empty);
    }
    if !bytes.starts_with(b"GGUF") && !b"GGUF".starts_with(bytes) {
        return Err(sniff::not_gguf(bytes));
    }
    let header = |short: Short| short.at(Place::Header);
    cursor.take(4, "the magic").map_err(header)?;
    match cursor.u32("the version").map_err(header)? {
        version @ (2 | 3) => Ok(version),
        // A small number with its bytes the other way round.
        swapped if swapped & 0xffff == 0 && swapped != 0 => Err(GgufError::BigEndian),
        found => Err(GgufError::Version { found }),
    }
}

fn count(cursor: &mut Cursor<'_>, what: &'static str, limit: u64) -> Result<u64, GgufError> {
    let offset = cursor.offset();
    let field = if what == "tensors" {
        "the tensor count"
    } else {
        "the metadata count"
    };
    let count = cursor.u64(field).map_err(|short| short.at(Place::Header))?;
    if count > limit {
        return Err(GgufError::CountLimit {
            what,
            count,
            limit,
            offset,
        });
    }
    Ok(count)
}

/// Whether `count` entries of at least `min` bytes can follow. Counts are below 2^20 here, so nothing overflows.
fn fits(
    cursor: &Cursor<'_>,
    what: &'static str,
    count: u64,
    min: u64,
    offset: u64,
) -> Result<(), GgufError> {
    let (need, have) = (count * min, cursor.remaining());
    if need > have {
        return Err(GgufError::CountExceedsFile {
            what,
            count,
            need,
            have,
            offset,
        });
    }
    Ok(())
}

/// A name: a length within `limit`, then text, not empty.
fn name(cursor: &mut Cursor<'_>, index: u64, is_tensor: bool) -> Result<String, GgufError> {
    let place = || {
        if is_tensor {
            Place::TensorNumber(index)
        } else {
            Place::KeyNumber(index)
        }
    };
    let (field, limit) = if is_tensor {
        ("the name", MAX_NAME_BYTES)
    } else {
        ("the key", MAX_KEY_BYTES)
    };
    let offset = cursor.offset();
    let len = cursor.u64(field).map_err(|short| short.at(place()))?;
    if len > limit {
        return Err(GgufError::NameTooLong {
            place: place(),
            len,
            limit,
            offset,
        });
    }
    let bytes = cursor.take(len, field).map_err(|short| short.at(place()))?;
    match std::str::from_utf8(bytes) {
        Ok("") if is_tensor => Err(GgufError::EmptyName { index, offset }),
        Ok("") => Err(GgufError::EmptyKey { index, offset }),
        Ok(text) => Ok(text.to_owned()),
        Err(_) if is_tensor => Err(GgufError::NameNotUtf8 { index, offset }),
        Err(_) => Err(GgufError::KeyNotUtf8 { index, offset }),
    }
}

fn entry(cursor: &mut Cursor<'_>, index: u64) -> Result<Entry, GgufError> {
    let offset = cursor.offset();
    let key = name(cursor, index, false)?.into_boxed_str();
    let ty = value_type(cursor, &key)?;
    let value = value(cursor, &key, ty)?;
    Ok(Entry { key, value, offset })
}

fn value_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, GgufError> {
    let offset = cursor.offset();
    let id = cursor.u32("the value type").map_err(in_key(key))?;
    ValueType::from_id(id).ok_or_else(|| GgufError::UnknownValueType {
        key: key.to_owned(),
        id,
        offset,
    })
}

fn in_key(key: &str) -> impl Fn(Short) -> GgufError {
    move |short| short.at(Place::Key(key.to_owned()))
}

fn value(cursor: &mut Cursor<'_>, key: &str, ty: ValueType) -> Result<Value, GgufError> {
    const FIELD: &str = "the value";
    let offset = cursor.offset();
    let value = match ty {
        ValueType::U8 => cursor.u8(FIELD).map(Value::U8),
        ValueType::I8 => cursor.u8(FIELD).map(|v| Value::I8(v as i8)),
        ValueType::U16 => cursor.u16(FIELD).map(Value::U16),
        ValueType::I16 => cursor.u16(FIELD).map(|v| Value::I16(v as i16)),
        ValueType::U32 => cursor.u32(FIELD).map(Value::U32),
        ValueType::I32 => cursor.u32(FIELD).map(|v| Value::I32(v as i32)),
        ValueType::U64 => cursor.u64(FIELD).map(Value::U64),
        ValueType::I64 => cursor.u64(FIELD).map(|v| Value::I64(v as i64)),
        ValueType::F32 => cursor.u32(FIELD).map(|v| Value::F32(f32::from_bits(v))),
        ValueType::F64 => cursor.u64(FIELD).map(|v| Value::F64(f64::from_bits(v))),
        ValueType::Bool => {
            let byte = cursor.u8(FIELD).map_err(in_key(key))?;
            return Ok(Value::Bool(truth(byte, key, offset)?));
        }
        ValueType::String => cursor.string(FIELD).map(Value::from_bytes),
        ValueType::Array => return array(cursor, key).map(Value::Array),
    };
    value.map_err(in_key(key))
}

fn truth(byte: u8, key: &str, offset: u64) -> Result<bool, GgufError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(GgufError::BadBool {
            key: key.to_owned(),
            found,
            offset,
        }),
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, GgufError> {
    let offset = cursor.offset();
    let element = value_type(cursor, key)?;
    let count = cursor.u64("the array length").map_err(in_key(key))?;
    let width = match element {
        ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
        ValueType::U16 | ValueType::I16 => 2,
        ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
        // A string is at least its length.
        ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::String => 8,
        ValueType::Array => {
            return Err(GgufError::NestedArray {
                key: key.to_owned(),
                offset,
            });
        }
    };
    let (need, have) = (u128::from(count) * width, cursor.remaining());
    if need > u128::from(have) {
        return Err(GgufError::ArrayExceedsFile {
            key: key.to_owned(),
            element,
            count,
            need,
            have,
            offset,
        });
    }
    if element == ValueType::String {
        return strings(cursor, key, count).map(Array::String);
    }
    let data_offset = cursor.offset();
    let bytes = cursor.take(need as u64, "the array").map_err(in_key(key))?;
    Ok(match element {
        ValueType::U8 => Array::U8(bytes.to_vec()),
        ValueType::I8 => Array::I8(bytes.iter().map(|&b| b as i8).collect()),
        ValueType::U16 => Array::U16(numbers(bytes, u16::from_le_bytes)),
        ValueType::I16 => Array::I16(numbers(bytes, i16::from_le_bytes)),
        ValueType::U32 => Array::U32(numbers(bytes, u32::from_le_bytes)),
        ValueType::I32 => Array::I32(numbers(bytes, i32::from_le_bytes)),
        ValueType::F32 => Array::F32(numbers(bytes, f32::from_le_bytes)),
        ValueType::U64 => Array::U64(numbers(bytes, u64::from_le_bytes)),
        ValueType::I64 => Array::I64(numbers(bytes, i64::from_le_bytes)),
        ValueType::F64 => Array::F64(numbers(bytes, f64::from_le_bytes)),
        _ => {
            let mut bools = Vec::with_capacity(bytes.len());
            for (i, &byte) in bytes.iter().enumerate() {
                bools.push(truth(byte, key, data_offset + i as u64)?);
            }
            Array::Bool(bools)
        }
    })
}

fn numbers<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| from(*chunk)).collect()
}

/// Two passes: the first checks lengths and learns the ends, the second copies into a block of the right size.
fn strings(cursor: &mut Cursor<'_>, key: &str, count: u64) -> Result<StringArray, GgufError> {
    const FIELD: &str = "a string of the array";
    let (offset, start) = (cursor.offset(), cursor.rest());
    // At most half the file: `count` strings take 8 bytes each there and 4 here.
    let mut ends = Vec::with_capacity(count as usize);
    let mut total = 0_u64;
    for _ in 0..count {
        // Cannot overflow: the sum of the lengths of slices of one file.
        total += cursor.string(FIELD).map_err(in_key(key))?.len() as u64;
        if total > MAX_STRING_ARRAY_BYTES {
            return Err(GgufError::StringArrayLimit {
                key: key.to_owned(),
                limit: MAX_STRING_ARRAY_BYTES,
                offset,
            });
        }
        ends.push(total as u32);
    }
    let mut bytes = Vec::with_capacity(total as usize);
    let mut rest = start;
    for &end in &ends {
        let len = end as usize - bytes.len();
        bytes.extend_from_slice(&rest[8..8 + len]);
        rest = &rest[8 + len..];
    }
    Ok(StringArray::from_parts(bytes, ends))
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let found = metadata
        .get_u64("general.alignment")?
        .unwrap_or(DEFAULT_ALIGNMENT);
    if !found.is_power_of_two() || found > MAX_ALIGNMENT {
        return Err(GgufError::Alignment {
            found,
            limit: MAX_ALIGNMENT,
        });
    }
    Ok(found)
}

/// One directory entry. Its `offset` is still counted from the start of the data.
fn tensor(
    cursor: &mut Cursor<'_>,
    index: u64,
    alignment: u64,
    file: u32,
) -> Result<TensorInfo, GgufError> {
    let offset = cursor.offset();
    let name = name(cursor, index, true)?;
    let short = |short: Short| short.at(Place::Tensor(name.clone()));
    let n_dims = cursor.u32("the dimension count").map_err(short)?;
    if n_dims == 0 || n_dims > MAX_DIMS {
        return Err(GgufError::DimensionCount {
            tensor: name,
            found: n_dims,
            limit: MAX_DIMS,
            offset,
        });
    }
    let mut shape = vec![0; n_dims as usize];
    // The file has the innermost dimension first.
    for (dimension, size) in shape.iter_mut().rev().enumerate() {
        *size = cursor.u64("a dimension").map_err(short)?;
        if *size == 0 {
            return Err(GgufError::ZeroDimension {
                tensor: name,
                dimension: dimension as u32,
                offset,
            });
        }
    }
    let id = cursor.u32("the tensor type").map_err(short)?;
    let data_offset = cursor.u64("the data offset").map_err(short)?;
    let Some(ty) = TensorType::from_id(id) else {
        return Err(unknown_type(name, id, offset));
    };
    let n_bytes = match data_bytes(ty, &shape) {
        Ok(n_bytes) => n_bytes,
        Err(Shape::PartialBlock(n_cols)) => {
            return Err(GgufError::PartialBlock {
                tensor: name,
                ty,
                n_cols,
                offset,
            });
        }
        Err(Shape::Overflow) => {
            return Err(GgufError::ShapeOverflow {
                tensor: name,
                shape,
                offset,
            });
        }
    };
    if data_offset % alignment != 0 {
        return Err(GgufError::Misaligned {
            tensor: name,
            data_offset,
            alignment,
            offset,
        });
    }
    Ok(TensorInfo {
        name,
        ty,
        shape,
        offset: data_offset,
        n_bytes,
        file,
    })
}

fn unknown_type(tensor: String, id: u32, offset: u64) -> GgufError {
    match TensorType::removed_name(id) {
        Some(name) => GgufError::RemovedTensorType {
            tensor,
            id,
            name,
            offset,
        },
        None => GgufError::UnknownTensorType { tensor, id, offset },
    }
}

/// What is wrong with a shape.
pub(crate) enum Shape {
    PartialBlock(u64),
    Overflow,
}

/// Bytes of a tensor, whose elements and bytes both stay below 2^63.
pub(crate) fn data_bytes(ty: TensorType, shape: &[u64]) -> Result<u64, Shape> {
    let n_cols = shape.last().copied().unwrap_or(1);
    if n_cols % ty.block_len() != 0 {
        return Err(Shape::PartialBlock(n_cols));
    }
    let small = |n: &u64| *n <= i64::MAX as u64;
    let n_elements = shape
        .iter()
        .try_fold(1_u64, |n, &d| n.checked_mul(d))
        .filter(small)
        .ok_or(Shape::Overflow)?;
    (n_elements / ty.block_len())
        .checked_mul(ty.block_bytes())
        .filter(small)
        .ok_or(Shape::Overflow)
}

/// Moves offsets to count from the start of the file, and checks that the data lies inside it without sharing bytes.
fn place_data(
    tensors: &mut [TensorInfo],
    head_end: u64,
    file_len: u64,
    alignment: u64,
) -> Result<(), GgufError> {
    // A file length plus 2^20 at most. A file without tensors may end before the padding.
    let data_start = head_end.next_multiple_of(alignment);
    let have = file_len.saturating_sub(data_start);
    let mut by_offset: Vec<u32> = (0..tensors.len() as u32).collect();
    for tensor in tensors.iter_mut() {
        if tensor
            .offset
            .checked_add(tensor.n_bytes)
            .is_none_or(|end| end > have)
        {
            return Err(GgufError::DataOutsideFile {
                tensor: tensor.name.clone(),
                data_offset: tensor.offset,
                n_bytes: tensor.n_bytes,
                have,
                offset: data_start,
            });
        }
        tensor.offset += data_start;
    }
    by_offset.sort_unstable_by_key(|&i| tensors[i as usize].offset);
    for pair in by_offset.windows(2) {
        let (first, second) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
        if first.offset + first.n_bytes > second.offset {
            return Err(GgufError::Overlap {
                first: first.name.clone(),
                second: second.name.clone(),
                offset: second.offset,
            });
        }
    }
    Ok(())
}
