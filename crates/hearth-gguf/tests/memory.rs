//! Memory taken while parsing stays below 16 times the input and 16 MiB, whatever the input.

use hearth_gguf::Gguf;
use hearth_testing::{
    hostile::{Raw, corpus, id},
    peak::{Peak, budget, measure},
};

#[global_allocator]
static ALLOCATOR: Peak = Peak;

/// Opens the bytes; panics when that takes more than it may. Returns the most bytes taken.
fn open(name: &str, bytes: Vec<u8>) -> usize {
    let len = bytes.len();
    let (result, taken) = measure(|| Gguf::from_vec(bytes));
    assert!(
        taken <= budget(len),
        "{name}: {taken} bytes for an input of {len}"
    );
    drop(result);
    taken
}

/// As many entries as the input can hold, of the kinds that cost most per byte.
fn densest() -> Vec<(&'static str, Vec<u8>)> {
    let keys = (1 << 16) - 1;
    let bools = (0..keys).fold(Raw::header(0, keys), |raw, i| {
        raw.key(&format!("{i:x}"), id::BOOL).bytes(&[1])
    });
    let strings = (0..keys).fold(Raw::header(0, keys), |raw, i| {
        raw.key(&format!("{i:x}"), id::STRING).string(b"")
    });
    let arrays = (0..keys).fold(Raw::header(0, keys), |raw, i| {
        raw.key_array(&format!("{i:x}"), id::STRING, 0)
    });
    let n = 300_000;
    let tensors = (0..n).fold(Raw::header(n, 0), |raw, i| {
        raw.tensor(&format!("{i:x}"), &[1], id::TENSOR_F32, i * 32)
    });
    let n = 1_000_000;
    let empty = (0..n).fold(Raw::header(0, 1).key_array("k", id::STRING, n), |raw, _| {
        raw.u64(0)
    });
    vec![
        ("keys with a bool", bools.finish()),
        ("keys with an empty string", strings.finish()),
        ("keys with an empty array", arrays.finish()),
        (
            "tensors of one element",
            tensors.data(32, n as usize * 32).finish(),
        ),
        ("an array of empty strings", empty.finish()),
    ]
}

/// One test, because the count is of the whole process.
#[test]
fn no_input_takes_more_than_its_budget() {
    for case in corpus() {
        let taken = open(case.name, case.bytes);
        // None of these has a reason to take more than a megabyte.
        assert!(taken < 1 << 20, "{}: {taken} bytes", case.name);
    }
    for (name, bytes) in densest() {
        let len = bytes.len();
        let taken = open(name, bytes);
        eprintln!(
            "{name}: {taken} bytes for {len}, {:.1} times",
            taken as f64 / len as f64
        );
    }
    // The allocator counts at all.
    let (_, taken) = measure(|| vec![0_u8; 12345]);
    assert!(taken >= 12345);
}
