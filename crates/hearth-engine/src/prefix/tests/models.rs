//! Models: pages give the same bits, and only those of the same model are found.

use std::{fs, num::NonZeroUsize, path::Path};

use hearth_kernels::{Kernels, Level};
use hearth_model::{Batch, Executor, ExecutorLimits, Row, Sequence};

use super::{identity::Remembered, *};

/// Read cold, read on from pages found in memory, and from pages found in files by another process: the same bits.
#[test]
fn warm_is_cold_bit_for_bit() {
    let mut windowed = TinyModel::new("llama", TensorType::Q4_0);
    windowed.sliding_window = Some(70);
    let files = [
        TinyModel::new("llama", TensorType::Q4_K),
        TinyModel::new("qwen3", TensorType::F32),
        TinyModel::new("qwen3moe", TensorType::Q8_0),
        windowed,
    ];
    for file in files {
        let model = load(file.build());
        for kv_type in KvType::ALL {
            let folder = TempFolder::new();
            let tokens = tokens(280, 5);
            let mut cold = Run::new(&model, kv_type, &folder);
            let (n_found, expected) = cold.logits_of_the_end(&tokens);
            assert_eq!(n_found, 0);
            let in_memory = cold.logits_of_the_end(&tokens);
            assert_eq!(
                in_memory,
                (4, expected.clone()),
                "{} {kv_type:?}",
                file.family
            );
            cold.store.flush(&cold.pool);
            drop(cold);
            let from_files = Run::new(&model, kv_type, &folder).logits_of_the_end(&tokens);
            assert_eq!(from_files, (4, expected), "{} {kv_type:?}", file.family);
        }
    }
}

/// A model with all it takes to run it.
struct Run<'a> {
    model: &'a Model,
    kernels: Kernels,
    executor: Executor,
    pool: PagePool,
    store: PrefixStore,
}

impl<'a> Run<'a> {
    fn new(model: &'a Model, kv_type: KvType, folder: &TempFolder) -> Self {
        let kernels = Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap();
        let limits = ExecutorLimits {
            max_tokens: 50,
            max_logits: 50,
            n_positions: 512,
        };
        let pool = PagePool::new(model, kv_type, 512).unwrap();
        Run {
            model,
            executor: Executor::new(model, &kernels, limits).unwrap(),
            kernels,
            store: PrefixStore::new(ModelIdentity::of(model), pool.layout(), &folder.options()),
            pool,
        }
    }

    /// Pages found, and the bits of the logits of the last 24 tokens.
    fn logits_of_the_end(&mut self, tokens: &[u32]) -> (usize, Vec<u32>) {
        let owner = owner("ann");
        let found = self
            .store
            .find_up_to(usize::MAX, &owner, tokens, &mut self.pool)
            .pages;
        let n_found = found.len();
        let mut sequence = Sequence::new();
        sequence.adopt(found, n_found * PAGE_POSITIONS);
        let window = self.model.plan().window();
        let mut bits = Vec::new();
        while sequence.len() < tokens.len() {
            let start = sequence.len();
            if let Some(window) = window {
                assert!(sequence.can_continue_at(start, Some(window)));
                sequence.release_outside(window, &mut self.pool);
            }
            let end = (start + 50).min(tokens.len());
            sequence.grow_to(end, &mut self.pool).unwrap();
            let rows: Vec<Row> = (start..end)
                .map(|pos| Row {
                    seq: 0,
                    pos: pos as u32,
                    token: tokens[pos],
                    wants_logits: pos >= tokens.len() - 24,
                })
                .collect();
            let batch = Batch {
                rows: &rows,
                tables: &[sequence.table()],
            };
            let logits = self
                .executor
                .step(self.model, &self.kernels, &mut self.pool, &batch)
                .unwrap();
            let rows = (0..logits.len()).flat_map(|index| logits.row(index));
            bits.extend(rows.map(|logit| logit.to_bits()));
            sequence.advance(end - start);
            self.store
                .keep(&owner, &tokens[..end], sequence.table(), &mut self.pool);
        }
        sequence.clear(&mut self.pool);
        (n_found, bits)
    }
}

/// A file on disk: known by its stamp, as a copy by its samples, and not taken for another of the same look.
#[test]
fn models_are_recognised() {
    let folder = TempFolder::new();
    // Large enough for bytes that no sample sees.
    let mut tiny = TinyModel::new("llama", TensorType::F32);
    tiny.n_ff = 3000;
    let bytes = tiny.build();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let open = |path: &Path| {
        let gguf = Arc::new(Gguf::open(path).unwrap());
        Model::load(gguf, ModelOptions::default()).unwrap()
    };
    let identity = |path: &Path| ModelIdentity::of(&open(path));
    let first = write("first.gguf", &bytes);
    let copy = write("copy.gguf", &bytes);
    let mut changed = bytes;
    let at = changed.len() - 5000;
    changed[at] ^= 1;
    let changed = write("changed.gguf", &changed);
    assert_eq!(
        identity(&first).quick(),
        identity(&changed).quick(),
        "a byte that no sample sees"
    );

    let mut rig = Rig::of(&open(&first), &folder.options(), 64);
    rig.read(&tokens(300, 1));
    rig.flush();
    drop(rig);
    let remembered = Remembered::read(&folder.0.join("prefix/models"));
    let full = remembered.by_stamp(identity(&first).stamp().unwrap());
    assert_eq!(full, identity(&copy).full(&|| true, &|| false));
    assert_eq!(identity(&first).full(&|| true, &|| true), None, "cut short");
    assert_eq!(remembered.by_stamp(identity(&copy).stamp().unwrap()), None);

    // At once, although nobody has read the copy.
    let mut rig = Rig::of(&open(&copy), &folder.options(), 64);
    assert_eq!(rig.read(&tokens(300, 1)), 4);
    drop(rig);

    let mut rig = Rig::of(&open(&changed), &folder.options(), 64);
    // Whatever it took the file for at first, soon it knows better.
    rig.n_found(&tokens(300, 1));
    let truth = identity(&changed).full(&|| true, &|| false);
    while rig.store.disk.as_ref().unwrap().model_file() != truth {
        rig.store.work(&mut rig.pool);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rig.n_found(&tokens(300, 1)), 0);
    assert_eq!(rig.pool.n_free(), 64, "what was taken over is given up");
}

#[test]
fn a_list_of_models_may_be_any_file() {
    let folder = TempFolder::new();
    let path = folder.0.join("models");
    let line = [Key([1; 32]), Key([2; 32]), Key([3; 32])];
    Remembered::default().add(&path, line).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let other = format!("x\n{good}{good} {good}{} \n\n", &good[..190]);
    fs::write(&path, other).unwrap();
    let read = Remembered::read(&path);
    assert_eq!(read.by_stamp(line[0]), Some(line[2]));
    assert_eq!(read.by_quick(line[1]), Some(line[2]));
    assert_eq!(read.by_stamp(line[1]), None);
    fs::write(&path, [0xff; 1000]).unwrap();
    assert_eq!(Remembered::read(&path).by_stamp(line[0]), None);
    for n in 0..1100_u32 {
        let stamp = Key::of("stamp", &[&n.to_le_bytes()]);
        Remembered::read(&path)
            .add(&path, [stamp, line[1], line[2]])
            .unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1000);
}
