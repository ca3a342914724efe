//! Any bytes: they are refused, or every tensor and every key can be used.

#![no_main]

use hearth_gguf::{Gguf, GgufError, TensorInfo};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    hearth_fuzz::within_budget(input, |input| match Gguf::from_vec(input.to_vec()) {
        Ok(gguf) => touch(&gguf),
        Err(error) => complain(&error),
    });
});

fn touch(gguf: &Gguf) {
    for tensor in gguf.tensors() {
        touch_tensor(gguf, tensor);
    }
    for (key, value) in gguf.metadata().iter() {
        assert!(gguf.metadata().get(key).is_some());
        let _ = (
            gguf.metadata().get_u32(key),
            gguf.metadata().get_f32(key),
            gguf.metadata().get_strings(key),
        );
        assert!(!value.to_string().is_empty());
    }
}

fn touch_tensor(gguf: &Gguf, tensor: &TensorInfo) {
    let data = gguf.data(tensor);
    assert_eq!(data.len() as u64, tensor.n_bytes());
    assert_eq!(tensor.n_rows() * tensor.n_cols(), tensor.n_elements());
    assert!(gguf.tensor(&tensor.name).is_some());
    std::hint::black_box(data.iter().fold(0_u8, |sum, &b| sum ^ b));
}

fn complain(error: &GgufError) {
    assert!(!error.to_string().is_empty() && !error.hint().is_empty());
}
