//! Model files with one defect each, for the tests of whatever reads model files.
//!
//! [`Raw`] writes the bytes of a GGUF file field by field and believes everything, as an attacker would; [`corpus`] is a
//! collection of small files made with it, each with the name of the error it must cause. Where a defect once was a
//! published hole in another program, its number stands beside it.

/// Value types and tensor types by number, as the format defines them.
pub mod id {
    #![allow(missing_docs)]
    pub const U8: u32 = 0;
    pub const U32: u32 = 4;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const TENSOR_F32: u32 = 0;
    pub const TENSOR_Q4_0: u32 = 2;
    pub const TENSOR_Q4_K: u32 = 12;
    pub const TENSOR_F64: u32 = 28;
}

/// The bytes of a file, written one field after the other without a check.
#[derive(Clone, Debug, Default)]
pub struct Raw(Vec<u8>);

impl Raw {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Raw {
        Raw::default()
    }

    /// Magic, version 3 and the two counts.
    #[must_use]
    pub fn header(n_tensors: u64, n_keys: u64) -> Raw {
        Raw::new().bytes(b"GGUF").u32(3).u64(n_tensors).u64(n_keys)
    }

    /// Any bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A 32-bit number.
    #[must_use]
    pub fn u32(self, value: u32) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    /// A 64-bit number.
    #[must_use]
    pub fn u64(self, value: u64) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    /// A length and that many bytes.
    #[must_use]
    pub fn string(self, bytes: &[u8]) -> Raw {
        self.u64(bytes.len() as u64).bytes(bytes)
    }

    /// A metadata key and the type of its value; the value must follow.
    #[must_use]
    pub fn key(self, key: &str, value_type: u32) -> Raw {
        self.string(key.as_bytes()).u32(value_type)
    }

    /// A whole entry with a `u32`.
    #[must_use]
    pub fn key_u32(self, key: &str, value: u32) -> Raw {
        self.key(key, id::U32).u32(value)
    }

    /// The start of an array; its elements must follow.
    #[must_use]
    pub fn key_array(self, key: &str, element_type: u32, count: u64) -> Raw {
        self.key(key, id::ARRAY).u32(element_type).u64(count)
    }

    /// A directory entry; `dims` in the order of the file, innermost first.
    #[must_use]
    pub fn tensor(self, name: &str, dims: &[u64], tensor_type: u32, offset: u64) -> Raw {
        let named = self.string(name.as_bytes()).u32(dims.len() as u32);
        dims.iter()
            .fold(named, |raw, &size| raw.u64(size))
            .u32(tensor_type)
            .u64(offset)
    }

    /// Padding up to a multiple of `alignment`, then `n_bytes` of data.
    #[must_use]
    pub fn data(mut self, alignment: usize, n_bytes: usize) -> Raw {
        let start = self.0.len().next_multiple_of(alignment);
        self.0.resize(start + n_bytes, 0);
        self
    }

    /// The file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// One file and the error it must cause.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// What is wrong with it, in words joined by underscores.
    pub name: &'static str,
    /// The variant of the reader's error type.
    pub error: &'static str,
    /// The content of the file.
    pub bytes: Vec<u8>,
}

/// A small file that is well formed: one tensor `w` of 8 × 4 F32, an architecture, an array of strings.
#[must_use]
pub fn well_formed() -> Vec<u8> {
    Raw::header(1, 2)
        .key("general.architecture", id::STRING)
        .string(b"llama")
        .key_array("tokenizer.ggml.tokens", id::STRING, 3)
        .string(b"a")
        .string(b"\xff")
        .string(b"")
        .tensor("w", &[4, 8], id::TENSOR_F32, 0)
        .data(32, 128)
        .finish()
}

/// One file per defect that a reader must refuse.
#[must_use]
pub fn corpus() -> Vec<Hostile> {
    let mut cases = Vec::new();
    let mut add = |name, error, bytes: Vec<u8>| cases.push(Hostile { name, error, bytes });
    first_bytes(&mut add);
    header(&mut add);
    metadata(&mut add);
    arrays(&mut add);
    directory(&mut add);
    shapes(&mut add);
    places(&mut add);
    cases
}

type Add<'a> = &'a mut dyn FnMut(&'static str, &'static str, Vec<u8>);

fn first_bytes(add: Add<'_>) {
    add("empty_file", "Empty", Vec::new());
    add("text_file", "OtherFormat", b"Once upon a time\n".to_vec());
    add(
        "web_page",
        "OtherFormat",
        b"<!DOCTYPE html><html>404</html>".to_vec(),
    );
    add(
        "git_lfs_pointer",
        "OtherFormat",
        b"version https://git-lfs.github.com/spec/v1\noid".to_vec(),
    );
    add(
        "safetensors",
        "OtherFormat",
        b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\"}}".to_vec(),
    );
    add(
        "pytorch_checkpoint",
        "OtherFormat",
        b"PK\x03\x04\0\0\0\0archive/data.pkl".to_vec(),
    );
    add(
        "legacy_ggml",
        "OtherFormat",
        b"lmgg\x01\0\0\0\0\0\0\0".to_vec(),
    );
    add(
        "legacy_ggjt",
        "OtherFormat",
        b"tjgg\x03\0\0\0\0\0\0\0".to_vec(),
    );
    add("other_bytes", "Magic", b"\x7fELF\x02\x01\x01\0".to_vec());
    add("part_of_the_magic", "Truncated", b"GG".to_vec());
    add(
        "big_endian",
        "BigEndian",
        Raw::new()
            .bytes(b"GGUF")
            .bytes(&3_u32.to_be_bytes())
            .bytes(&[0; 16])
            .finish(),
    );
    add("big_endian_magic", "BigEndian", b"FUGG\0\0\0\x03".to_vec());
    add(
        "version_1",
        "Version",
        Raw::new().bytes(b"GGUF").u32(1).u32(0).u32(0).finish(),
    );
    add(
        "version_0",
        "Version",
        Raw::new().bytes(b"GGUF").u32(0).u64(0).u64(0).finish(),
    );
    add(
        "version_of_the_future",
        "Version",
        Raw::new().bytes(b"GGUF").u32(4).u64(0).u64(0).finish(),
    );
}

fn header(add: Add<'_>) {
    // CVE-2024-21802 and its sisters: counts of the header multiplied into a size.
    add(
        "cve_2024_21802_tensor_count_of_all_bits",
        "CountLimit",
        Raw::header(u64::MAX, 0).finish(),
    );
    add(
        "cve_2024_21802_key_count_of_all_bits",
        "CountLimit",
        Raw::header(0, u64::MAX).finish(),
    );
    add(
        "more_keys_than_the_limit",
        "CountLimit",
        Raw::header(0, (1 << 16) + 1).finish(),
    );
    add(
        "more_tensors_than_the_limit",
        "CountLimit",
        Raw::header((1 << 20) + 1, 0).finish(),
    );
    add(
        "more_keys_than_fit_the_file",
        "CountExceedsFile",
        Raw::header(0, 1000).finish(),
    );
    add(
        "more_tensors_than_fit_the_file",
        "CountExceedsFile",
        Raw::header(1000, 0).finish(),
    );
    add(
        "header_cut_in_the_version",
        "Truncated",
        b"GGUF\x03\0".to_vec(),
    );
    add(
        "header_cut_in_the_counts",
        "Truncated",
        Raw::new().bytes(b"GGUF").u32(3).u64(1).finish(),
    );
}

fn metadata(add: Add<'_>) {
    let one = || Raw::header(0, 1);
    // An empty key trips an assertion elsewhere.
    add("empty_key", "EmptyKey", one().key_u32("", 1).finish());
    add(
        "key_not_utf8",
        "KeyNotUtf8",
        one().string(b"a\xff").u32(id::U32).u32(1).finish(),
    );
    add(
        "key_longer_than_the_limit",
        "NameTooLong",
        one().u64(1 << 16).bytes(&[b'k'; 70_000]).finish(),
    );
    add(
        "key_length_of_all_bits",
        "NameTooLong",
        one().u64(u64::MAX).bytes(&[b'k'; 64]).finish(),
    );
    add(
        "key_longer_than_the_file",
        "Truncated",
        one().u64(60_000).bytes(&[b'k'; 64]).finish(),
    );
    add(
        "value_longer_than_the_file",
        "Truncated",
        one().key("k", id::STRING).u64(u64::MAX).finish(),
    );
    add(
        "value_cut",
        "Truncated",
        one().key("k", id::U64).u32(0).finish(),
    );
    add(
        "duplicate_key",
        "DuplicateKey",
        Raw::header(0, 2).key_u32("k", 1).key_u32("k", 1).finish(),
    );
    add(
        "unknown_value_type",
        "UnknownValueType",
        one().key("k", 13).u64(0).finish(),
    );
    add(
        "value_type_of_all_bits",
        "UnknownValueType",
        one().key("k", u32::MAX).u64(0).finish(),
    );
    add(
        "bool_of_2",
        "BadBool",
        one().key("k", id::BOOL).bytes(&[2]).finish(),
    );
    let alignment = |value| {
        one()
            .key_u32("general.alignment", value)
            .data(32, 0)
            .finish()
    };
    add("alignment_zero", "Alignment", alignment(0));
    add("alignment_no_power_of_two", "Alignment", alignment(48));
    add("alignment_without_bound", "Alignment", alignment(1 << 31));
    let wide = one()
        .key("general.alignment", id::U64)
        .u64(1 << 63)
        .finish();
    add("alignment_of_63_bits", "Alignment", wide);
    // The wrong type trips an assertion elsewhere.
    add(
        "alignment_a_string",
        "WrongType",
        one()
            .key("general.alignment", id::STRING)
            .string(b"32")
            .finish(),
    );
    add(
        "alignment_a_float",
        "WrongType",
        one()
            .key("general.alignment", id::F32)
            .u32(0x4200_0000)
            .finish(),
    );
    add(
        "alignment_an_array",
        "WrongType",
        one()
            .key_array("general.alignment", id::U32, 1)
            .u32(32)
            .finish(),
    );
}

fn arrays(add: Add<'_>) {
    let one = || Raw::header(0, 1);
    // A file of 43 bytes that made other readers take all memory.
    add(
        "array_of_2_to_63_u8",
        "ArrayExceedsFile",
        one().key_array("k", id::U8, 1 << 63).finish(),
    );
    add(
        "array_of_2_to_63_u64",
        "ArrayExceedsFile",
        one().key_array("k", id::U64, 1 << 63).finish(),
    );
    add(
        "array_whose_bytes_wrap_to_8",
        "ArrayExceedsFile",
        one().key_array("k", id::U64, (1 << 61) + 1).u64(0).finish(),
    );
    add(
        "array_of_2_to_63_strings",
        "ArrayExceedsFile",
        one().key_array("k", id::STRING, 1 << 63).finish(),
    );
    add(
        "array_of_all_bits",
        "ArrayExceedsFile",
        one().key_array("k", id::F32, u64::MAX).finish(),
    );
    add(
        "array_one_element_short",
        "ArrayExceedsFile",
        one().key_array("k", id::U32, 2).u32(0).finish(),
    );
    let long = one()
        .key_array("k", id::STRING, 2)
        .string(b"a")
        .u64(u64::MAX)
        .finish();
    add("string_in_array_longer_than_the_file", "Truncated", long);
    let depth = (0..5000).fold(one().key("k", id::ARRAY), |raw, _| {
        raw.u32(id::ARRAY).u64(1)
    });
    add("arrays_nested_5000_deep", "NestedArray", depth.finish());
    add(
        "array_of_unknown_type",
        "UnknownValueType",
        one().key_array("k", 99, 0).finish(),
    );
    add(
        "bool_of_255_in_array",
        "BadBool",
        one()
            .key_array("k", id::BOOL, 3)
            .bytes(&[0, 1, 255])
            .finish(),
    );
}

fn directory(add: Add<'_>) {
    let one = || Raw::header(1, 0);
    let f32 = id::TENSOR_F32;
    add(
        "empty_tensor_name",
        "EmptyName",
        one().tensor("", &[8], f32, 0).data(32, 32).finish(),
    );
    let not_text = one()
        .string(b"\xc3")
        .u32(1)
        .u64(8)
        .u32(f32)
        .u64(0)
        .data(32, 32)
        .finish();
    add("tensor_name_not_utf8", "NameNotUtf8", not_text);
    add(
        "tensor_name_longer_than_the_limit",
        "NameTooLong",
        one()
            .tensor(&"n".repeat(256), &[8], f32, 0)
            .data(32, 32)
            .finish(),
    );
    let twice = Raw::header(2, 0)
        .tensor("w", &[8], f32, 0)
        .tensor("w", &[8], f32, 32)
        .data(32, 64)
        .finish();
    add("duplicate_tensor", "DuplicateTensor", twice);
    add(
        "no_dimensions",
        "DimensionCount",
        one().tensor("w", &[], f32, 0).data(32, 32).finish(),
    );
    add(
        "five_dimensions",
        "DimensionCount",
        one()
            .tensor("w", &[8, 1, 1, 1, 1], f32, 0)
            .data(32, 32)
            .finish(),
    );
    let many = one()
        .string(b"w")
        .u32(u32::MAX)
        .u64(8)
        .u32(f32)
        .u64(0)
        .data(32, 32)
        .finish();
    add("dimensions_of_all_bits", "DimensionCount", many);
    add(
        "unknown_tensor_type",
        "UnknownTensorType",
        one().tensor("w", &[8], 1000, 0).data(32, 32).finish(),
    );
    add(
        "removed_tensor_type",
        "RemovedTensorType",
        one().tensor("w", &[8], 31, 0).data(32, 32).finish(),
    );
    add(
        "tensor_entry_cut",
        "Truncated",
        one().string(b"w").u32(3).u64(8).u64(8).u64(8).finish(),
    );
}

fn shapes(add: Add<'_>) {
    let one = |dims: &[u64], ty| {
        Raw::header(1, 0)
            .tensor("w", dims, ty, 0)
            .data(32, 64)
            .finish()
    };
    // Divisions by zero elsewhere: GO-2025-3559 and neighbours.
    add(
        "go_2025_3559_zero_dimension",
        "ZeroDimension",
        one(&[0], id::TENSOR_F32),
    );
    add(
        "zero_outer_dimension",
        "ZeroDimension",
        one(&[8, 8, 0], id::TENSOR_F32),
    );
    // GHSA-96jg-mvhq-q7q7 and the bypasses after it: the count of elements wraps, then the count of bytes, then the padding.
    add(
        "ghsa_96jg_element_count_wraps_to_zero",
        "ShapeOverflow",
        one(&[1 << 32, 1 << 32], id::TENSOR_F32),
    );
    add(
        "ghsa_96jg_element_count_wraps_small",
        "ShapeOverflow",
        one(&[1 << 62, 4, 4, 1], id::TENSOR_F32),
    );
    add(
        "ghsa_vgg9_byte_count_wraps",
        "ShapeOverflow",
        one(&[1 << 62], id::TENSOR_F64),
    );
    add(
        "element_count_of_64_bits",
        "ShapeOverflow",
        one(&[u64::MAX], id::TENSOR_F32),
    );
    add(
        "block_count_near_the_end_of_63_bits",
        "DataOutsideFile",
        one(&[(1 << 63) - 256], id::TENSOR_Q4_K),
    );
    add(
        "row_of_half_a_block",
        "PartialBlock",
        one(&[16], id::TENSOR_Q4_0),
    );
    add(
        "row_of_a_block_and_a_half",
        "PartialBlock",
        one(&[384, 2], id::TENSOR_Q4_K),
    );
}

fn places(add: Add<'_>) {
    let one = |dims: &[u64], offset, n_bytes| {
        Raw::header(1, 0)
            .tensor("w", dims, id::TENSOR_F32, offset)
            .data(32, n_bytes)
            .finish()
    };
    // CVE-2026-7482: data declared beyond the file was read from the heap.
    add(
        "cve_2026_7482_data_beyond_the_file",
        "DataOutsideFile",
        one(&[1 << 40], 0, 64),
    );
    add("data_one_byte_short", "DataOutsideFile", one(&[16], 0, 63));
    add(
        "data_offset_beyond_the_file",
        "DataOutsideFile",
        one(&[8], 1 << 40, 64),
    );
    // GHSA-vgg9-87g3-85w8: offset and padded size wrap around the end of 64 bits.
    add(
        "ghsa_vgg9_offset_wraps",
        "DataOutsideFile",
        one(&[8], u64::MAX - 31, 64),
    );
    add(
        "data_inside_the_padding_that_is_not_there",
        "DataOutsideFile",
        {
            Raw::header(1, 0)
                .tensor("w", &[1], id::TENSOR_F32, 0)
                .finish()
        },
    );
    add("data_not_aligned", "Misaligned", one(&[8], 4, 64));
    let two = |second| {
        let first = Raw::header(2, 0).tensor("a", &[16], id::TENSOR_F32, 0);
        first
            .tensor("b", &[8], id::TENSOR_F32, second)
            .data(32, 128)
            .finish()
    };
    add("same_data_twice", "Overlap", two(0));
    add("data_overlaps_by_half", "Overlap", two(32));
    let split = Raw::header(0, 2)
        .key_u32("split.count", 2)
        .key_u32("split.no", 0);
    add(
        "part_of_a_split_model_alone",
        "SplitNeedsPath",
        split.finish(),
    );
    add(
        "split_without_a_number",
        "MissingKey",
        Raw::header(0, 1).key_u32("split.count", 2).finish(),
    );
}
