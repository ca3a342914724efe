//! Dequantisation against other people's decoders: golden blocks made by the `gguf` Python package, and, where
//! `HEARTH_FIXTURES` names the fixtures, the recorded rows and checksums of whole tensors.

use hearth_kernels::WeightType;
use hearth_kernels::quant::dequantize;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/quant");

fn read(name: &str) -> Vec<u8> {
    let path = format!("{GOLDEN}/{name}");
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn golden_blocks_decode_to_the_same_bits() {
    let mut wrong = Vec::new();
    for ty in WeightType::ALL {
        let blocks = read(&format!("{ty}.blocks"));
        let expected = read(&format!("{ty}.f32"));
        assert!(
            blocks.len() / ty.block_bytes() >= 4,
            "{ty}: too few golden blocks"
        );
        let mut weights = vec![0.0; blocks.len() / ty.block_bytes() * ty.block_len()];
        dequantize(ty, &blocks, &mut weights);
        assert_eq!(weights.len() * 4, expected.len(), "{ty}");
        for (i, (got, want)) in weights.iter().zip(expected.chunks_exact(4)).enumerate() {
            let want = f32::from_le_bytes([want[0], want[1], want[2], want[3]]);
            if got.to_bits() != want.to_bits() {
                wrong.push(format!("{ty} weight {i}: {got:e}, expected {want:e}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_part_of_a_block_is_refused() {
    let mut out = vec![0.0; 32];
    let result = std::panic::catch_unwind(move || dequantize(WeightType::Q4_0, &[0; 17], &mut out));
    assert!(result.is_err());
}
