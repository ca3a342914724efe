//! What is written is read back, and written again gives the same bytes.

use std::{fs, io::Cursor, ops::ControlFlow, path::PathBuf};

use hearth_gguf::{Array, Gguf, GgufError, GgufWriter, StringArray, TensorType, Value, shard_name};
use proptest::prelude::*;

type Tensor = (TensorType, Vec<u64>);

fn a_value() -> impl Strategy<Value = Value> {
    let strings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9);
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        prop::num::f32::NORMAL.prop_map(Value::F32),
        prop::num::f64::NORMAL.prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        "\\PC{0,12}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Value::from_bytes(&bytes)),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::from),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Value::from),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(Value::from),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(Value::from),
        prop::collection::vec(prop::num::f32::NORMAL, 0..9).prop_map(Value::from),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Value::from),
        strings.prop_map(|strings| Value::from(strings.into_iter().collect::<StringArray>())),
    ]
}

fn a_tensor() -> impl Strategy<Value = Tensor> {
    (
        0..TensorType::ALL.len(),
        prop::collection::vec(1..4_u64, 1..5),
    )
        .prop_map(|(ty, mut shape)| {
            let ty = TensorType::ALL[ty];
            let last = shape.len() - 1;
            shape[last] *= ty.block_len();
            (ty, shape)
        })
}

/// Data that differs from tensor to tensor.
fn data(seed: usize, n_bytes: u64) -> Vec<u8> {
    (0..n_bytes)
        .map(|i| (i as usize * 31 + seed * 7) as u8)
        .collect()
}

fn write(
    values: &[(String, Value)],
    tensors: &[Tensor],
    alignment: Option<u32>,
) -> Result<Vec<u8>, GgufError> {
    let mut writer = GgufWriter::new();
    if let Some(alignment) = alignment {
        writer.set_alignment(alignment)?;
    }
    for (key, value) in values {
        writer.add_value(key, value.clone())?;
    }
    let mut sizes = Vec::new();
    for (i, (ty, shape)) in tensors.iter().enumerate() {
        sizes.push(writer.add_tensor(&format!("t{i}"), *ty, shape)?);
    }
    let mut body = writer.begin(Vec::new())?;
    for (i, &size) in sizes.iter().enumerate() {
        if i % 2 == 0 {
            body.write_tensor(&data(i, size))?;
        } else {
            body.write_tensor_from(&mut Cursor::new(data(i, size)))?;
        }
    }
    body.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        values in prop::collection::btree_map("[a-z.]{1,8}", a_value(), 0..12),
        tensors in prop::collection::vec(a_tensor(), 0..6),
        alignment in prop::option::of((0..13_u32).prop_map(|bits| 1 << bits)),
    ) {
        let values: Vec<_> = values.into_iter().collect();
        let bytes = write(&values, &tensors, alignment).expect("a valid file");
        let gguf = Gguf::from_vec(bytes.clone()).expect("what we write opens");
        prop_assert_eq!(gguf.version(), 3);
        prop_assert_eq!(gguf.alignment(), alignment.map_or(32, u64::from));
        for (key, value) in &values {
            prop_assert_eq!(gguf.metadata().get(key), Some(value));
        }
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (i, (tensor, (ty, shape))) in gguf.tensors().iter().zip(&tensors).enumerate() {
            prop_assert_eq!((tensor.ty, &tensor.shape), (*ty, shape));
            prop_assert_eq!(tensor.offset() % gguf.alignment(), 0);
            prop_assert_eq!(gguf.data(tensor), data(i, tensor.n_bytes()));
        }
        prop_assert_eq!(write(&values, &tensors, alignment).expect("again"), bytes);
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() -> Result<(), GgufError> {
    let mut writer = GgufWriter::new();
    assert!(matches!(
        writer.add_value("", 1_u32),
        Err(GgufError::EmptyKey { .. })
    ));
    assert!(matches!(
        writer.set_alignment(24),
        Err(GgufError::Alignment { found: 24, .. })
    ));
    writer.add_value("k", 1_u32)?;
    assert!(matches!(
        writer.add_value("k", 1_u32),
        Err(GgufError::DuplicateKey { .. })
    ));
    let tensor = |writer: &mut GgufWriter, name: &str, shape: &[u64]| {
        writer.add_tensor(name, TensorType::Q4_0, shape)
    };
    assert!(matches!(
        tensor(&mut writer, "", &[32]),
        Err(GgufError::EmptyName { .. })
    ));
    assert!(matches!(
        tensor(&mut writer, "t", &[]),
        Err(GgufError::DimensionCount { found: 0, .. })
    ));
    assert!(matches!(
        tensor(&mut writer, "t", &[0, 32]),
        Err(GgufError::ZeroDimension { .. })
    ));
    assert!(matches!(
        tensor(&mut writer, "t", &[2, 16]),
        Err(GgufError::PartialBlock { n_cols: 16, .. })
    ));
    assert!(matches!(
        tensor(&mut writer, "t", &[1 << 40, 1 << 40]),
        Err(GgufError::ShapeOverflow { .. })
    ));
    assert_eq!(tensor(&mut writer, "t", &[2, 32])?, 36);
    assert!(matches!(
        tensor(&mut writer, "t", &[2, 32]),
        Err(GgufError::DuplicateTensor { .. })
    ));
    let mut body = writer.clone().begin(Vec::new())?;
    assert!(matches!(
        body.write_tensor(&[0; 35]),
        Err(GgufError::WrongDataSize {
            expected: 36,
            found: 35,
            ..
        })
    ));
    let body = writer.clone().begin(Vec::new())?;
    assert!(matches!(
        body.finish(),
        Err(GgufError::UnwrittenTensor { .. })
    ));
    let mut body = writer.begin(Vec::new())?;
    body.write_tensor(&[0; 36])?;
    assert!(matches!(
        body.write_tensor(&[]),
        Err(GgufError::UndeclaredTensor { count: 1 })
    ));
    Ok(())
}

#[test]
fn numbers_of_any_width_are_read_where_they_fit() -> Result<(), GgufError> {
    let mut writer = GgufWriter::new();
    writer.add_value("wide", u64::from(u32::MAX))?;
    writer.add_value("negative", -1_i32)?;
    writer.add_value("double", 0.5_f64)?;
    writer.add_value("per_layer", vec![4_u32, 0, 2])?;
    writer.add_value("for_all", 8_u16)?;
    let gguf = Gguf::from_vec(writer.begin(Vec::new())?.finish()?)?;
    let metadata = gguf.metadata();
    assert_eq!(metadata.require_u32("wide")?, u32::MAX);
    assert!(matches!(
        metadata.get_u32("negative"),
        Err(GgufError::OutOfRange { found: -1, .. })
    ));
    assert_eq!(metadata.require_f32("double")?, 0.5);
    assert_eq!(
        metadata.get_u32_per_layer("per_layer", 3)?,
        Some(vec![4, 0, 2])
    );
    assert_eq!(metadata.get_u32_per_layer("for_all", 2)?, Some(vec![8, 8]));
    assert!(matches!(
        metadata.get_u32_per_layer("per_layer", 4),
        Err(GgufError::WrongLength {
            expected: 4,
            found: 3,
            ..
        })
    ));
    assert_eq!(
        metadata
            .get("per_layer")
            .and_then(Value::as_array)
            .map(Array::len),
        Some(3)
    );
    Ok(())
}

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("hearth-gguf-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }

    /// Writes part `no` as a file that says it is part `says_no` of `count`.
    fn part(&self, no: u64, says_no: u16, count: u16) -> PathBuf {
        let mut writer = GgufWriter::new();
        writer.add_value("split.no", says_no).expect("a key");
        writer.add_value("split.count", count).expect("a key");
        writer
            .add_value("split.tensors.count", 2_i32)
            .expect("a key");
        writer
            .add_tensor(&format!("t{says_no}"), TensorType::F32, &[8])
            .expect("a tensor");
        let mut body = writer.begin(Vec::new()).expect("memory takes all");
        body.write_tensor(&[says_no as u8; 32])
            .expect("the right size");
        let path = self.0.join(shard_name("m", no, 2));
        fs::write(&path, body.finish().expect("complete")).expect("a temporary file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_split_model_is_one_model() -> Result<(), GgufError> {
    let folder = Folder::new("whole");
    let (first, second) = (folder.part(0, 0, 2), folder.part(1, 1, 2));
    let gguf = Gguf::open(&first)?;
    assert_eq!(
        (gguf.n_files(), gguf.paths()),
        (2, &[first.clone(), second.clone()][..])
    );
    for (i, tensor) in gguf.tensors().iter().enumerate() {
        assert_eq!(
            (tensor.file_index(), gguf.data(tensor)),
            (i, &[i as u8; 32][..])
        );
    }
    let (mut last, mut calls) = (0, 0);
    gguf.read_ahead(&mut |done, total| {
        assert!(done > last && total == gguf.file_bytes());
        (last, calls) = (done, calls + 1);
        ControlFlow::Continue(())
    });
    assert_eq!((last, calls), (gguf.file_bytes(), 2));
    assert!(
        gguf.resident_fraction()
            .is_none_or(|fraction| fraction == 1.0),
        "just read"
    );
    assert!(matches!(
        Gguf::open(&second),
        Err(GgufError::NotFirstShard { no: 2, count: 2 })
    ));
    Ok(())
}

#[test]
fn parts_that_do_not_belong_together_are_told_apart() {
    let folder = Folder::new("missing");
    let first = folder.part(0, 0, 2);
    assert!(matches!(
        Gguf::open(&first),
        Err(GgufError::MissingShard {
            no: 2,
            count: 2,
            ..
        })
    ));
    folder.part(1, 0, 2);
    assert!(matches!(
        Gguf::open(&first),
        Err(GgufError::ShardOrder {
            expected: 2,
            found: 1,
            ..
        })
    ));
    folder.part(1, 1, 3);
    assert!(matches!(
        Gguf::open(&first),
        Err(GgufError::ShardCount {
            expected: 2,
            found: 3,
            ..
        })
    ));
    let path = folder.part(1, 1, 2);
    let whole = fs::read(&path).expect("the part");
    fs::write(&path, &whole[..whole.len() - 1]).expect("a temporary file");
    let error = Gguf::open(&first).expect_err("a cut part");
    assert!(
        matches!(&error, GgufError::Shard { source, .. } if matches!(**source, GgufError::DataOutsideFile { .. }))
    );
    let renamed = folder.0.join("model.gguf");
    fs::rename(&first, &renamed).expect("a temporary file");
    assert!(matches!(
        Gguf::open(&renamed),
        Err(GgufError::ShardName { count: 2, .. })
    ));
}
