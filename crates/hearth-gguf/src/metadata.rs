//! Metadata: keys in the order of the file, found by binary search, and getters that check types.

use crate::{
    error::GgufError,
    value::{Array, StringArray, Value},
};

/// The metadata of a model.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<Entry>,
    /// Numbers of entries, sorted by key.
    by_key: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Box<str>,
    pub value: Value,
    /// Where the entry begins in the file.
    pub offset: u64,
}

impl Metadata {
    /// Indexes the entries; the same key twice is an error. At most [`MAX_KEYS`](crate::limits::MAX_KEYS) entries.
    pub(crate) fn from_entries(entries: Vec<Entry>) -> Result<Metadata, GgufError> {
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        // Stable, so of two equal keys the first in the file comes first.
        by_key.sort_by(|&a, &b| entries[a as usize].key.cmp(&entries[b as usize].key));
        for pair in by_key.windows(2) {
            let (first, second) = (&entries[pair[0] as usize], &entries[pair[1] as usize]);
            if first.key == second.key {
                return Err(GgufError::DuplicateKey {
                    key: first.key.to_string(),
                    first: first.offset,
                    second: second.offset,
                });
            }
        }
        Ok(Metadata { entries, by_key })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let found = self
            .by_key
            .binary_search_by(|&i| self.entries[i as usize].key.as_ref().cmp(key))
            .ok()?;
        Some(&self.entries[self.by_key[found] as usize])
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|entry| (entry.key.as_ref(), &entry.value))
    }

    /// Keys in the file.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// `None` when the key is absent, an error when `read` cannot make something of its value.
    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        match read(&entry.value) {
            Some(value) => Ok(Some(value)),
            None => Err(wrong_type(entry, expected)),
        }
    }

    /// An integer of any width that fits; one that does not is an error of its own, with its value.
    fn read_integer<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        let Some(found) = entry.value.as_integer() else {
            return Err(wrong_type(entry, expected));
        };
        let out_of_range = |_| GgufError::OutOfRange {
            key: key.to_owned(),
            expected,
            found,
            offset: entry.offset,
        };
        found.try_into().map(Some).map_err(out_of_range)
    }

    /// A `u32`, from an integer of any width that fits.
    ///
    /// # Errors
    /// When the key is there with another type or a number that does not fit; so for all getters below.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.read_integer(key, "an integer of 0 to 4294967295")
    }

    /// A `u64`, from an integer of any width that fits.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.read_integer(key, "an integer of at least 0")
    }

    /// An `f32`, from a float of either width (the wider one is rounded).
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.read(key, "a float", |v| v.as_f64().map(|v| v as f32))
    }

    /// A truth value.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.read(key, "a bool", Value::as_bool)
    }

    /// Text.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32); a string that is not UTF-8 is one of them.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.read(key, "a string", Value::as_str)
    }

    /// An array of any element type.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_array(&self, key: &str) -> Result<Option<&Array>, GgufError> {
        self.read(key, "an array", Value::as_array)
    }

    /// An array of strings.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_strings(&self, key: &str) -> Result<Option<&StringArray>, GgufError> {
        self.read(key, "an array of strings", |v| match v {
            Value::Array(Array::String(strings)) => Some(strings),
            _ => None,
        })
    }

    /// An array of `f32`.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.read(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(floats)) => Some(floats.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width, each of which fits an `i32`.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32).
    pub fn get_i32s(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.read(key, "an array of integers that fit 32 bits", |v| {
            integers(v.as_array()?)
        })
    }

    /// A number per layer: an array of `n_layer` integers, or one integer that holds for all.
    ///
    /// # Errors
    /// As [`get_u32`](Self::get_u32), and when an array has another length than `n_layer`.
    pub fn get_u32_per_layer(
        &self,
        key: &str,
        n_layer: usize,
    ) -> Result<Option<Vec<u32>>, GgufError> {
        let expected = "an integer of 0 to 4294967295, or an array of them";
        let numbers = self.read(key, expected, |v| match v {
            Value::Array(array) => integers(array),
            single => Some(vec![single.as_integer()?.try_into().ok()?; n_layer]),
        })?;
        let Some(numbers) = numbers else {
            return Ok(None);
        };
        if numbers.len() != n_layer {
            return Err(GgufError::WrongLength {
                key: key.to_owned(),
                expected: n_layer,
                found: numbers.len(),
                offset: self.offset(key).unwrap_or(0),
            });
        }
        Ok(Some(numbers))
    }

    /// Where the entry of a key begins in the file, for messages.
    #[must_use]
    pub fn offset(&self, key: &str) -> Option<u64> {
        self.entry(key).map(|entry| entry.offset)
    }
}

/// The same getters for keys that must be there.
macro_rules! required {
    ($($name:ident = $get:ident -> $ty:ty, $expected:literal;)*) => {
        impl Metadata {$(
            #[doc = concat!("As [`", stringify!($get), "`](Self::", stringify!($get), "), for a key that must be there.")]
            ///
            /// # Errors
            /// When the key is absent, or as the other.
            pub fn $name(&self, key: &str) -> Result<$ty, GgufError> {
                self.$get(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: $expected })
            }
        )*}
    };
}

required! {
    require_u32 = get_u32 -> u32, "an integer";
    require_u64 = get_u64 -> u64, "an integer";
    require_f32 = get_f32 -> f32, "a float";
    require_bool = get_bool -> bool, "a bool";
    require_str = get_str -> &str, "a string";
    require_array = get_array -> &Array, "an array";
    require_strings = get_strings -> &StringArray, "an array of strings";
    require_f32s = get_f32s -> &[f32], "an array of f32";
    require_i32s = get_i32s -> Vec<i32>, "an array of integers";
}

fn wrong_type(entry: &Entry, expected: &'static str) -> GgufError {
    GgufError::WrongType {
        key: entry.key.to_string(),
        expected,
        found: entry.value.describe_type(),
        offset: entry.offset,
    }
}

/// All elements, if they are integers that fit.
fn integers<T>(array: &Array) -> Option<Vec<T>>
where
    T: TryFrom<u8>
        + TryFrom<i8>
        + TryFrom<u16>
        + TryFrom<i16>
        + TryFrom<u32>
        + TryFrom<i32>
        + TryFrom<u64>
        + TryFrom<i64>,
{
    fn all<T: TryFrom<S>, S: Copy>(v: &[S]) -> Option<Vec<T>> {
        v.iter().map(|&x| x.try_into().ok()).collect()
    }
    match array {
        Array::U8(v) => all(v),
        Array::I8(v) => all(v),
        Array::U16(v) => all(v),
        Array::I16(v) => all(v),
        Array::U32(v) => all(v),
        Array::I32(v) => all(v),
        Array::U64(v) => all(v),
        Array::I64(v) => all(v),
        _ => None,
    }
}
