//! Whole tensors of real files against recorded rows and checksums of two other decoders. Needs `HEARTH_FIXTURES`.

use std::path::Path;

use hearth_gguf::Gguf;
use hearth_kernels::WeightType;
use hearth_kernels::quant::dequantize;
use serde_json::Value;

#[test]
fn recorded_tensors_decode_to_the_same_bits() {
    let Some(fixtures) = std::env::var_os("HEARTH_FIXTURES") else {
        println!("not executed: HEARTH_FIXTURES is not set, so no recorded tensors were compared");
        return;
    };
    let folder = Path::new(&fixtures).join("parity/quant");
    let mut compared = Vec::new();
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("fixtures have parity/quant") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable record");
        let record: Value = serde_json::from_str(&text).expect("a JSON record");
        let gguf = Gguf::open(&folder.join(record["gguf"].as_str().expect("a file name")));
        let gguf = gguf.expect("a valid file");
        for golden in record["golden_dequant"].as_array().expect("golden tensors") {
            let name = golden["type"].as_str().expect("a type");
            let Some(ty) = WeightType::ALL.into_iter().find(|ty| ty.name() == name) else {
                continue;
            };
            let label = format!("{} {} {name}", path.display(), golden["tensor"]);
            match compare(&gguf, ty, golden) {
                Ok(()) => compared.push(name.to_owned()),
                Err(difference) => failures.push(format!("{label}: {difference}")),
            }
        }
    }
    compared.sort();
    println!(
        "compared {} tensors: {}",
        compared.len(),
        compared.join(" ")
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!compared.is_empty());
}

fn compare(gguf: &Gguf, ty: WeightType, golden: &Value) -> Result<(), String> {
    let name = golden["tensor"].as_str().expect("a tensor name");
    let tensor = gguf.tensor(name).ok_or("the file lacks the tensor")?;
    let bytes = gguf.data(tensor);
    let mut weights = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
    dequantize(ty, bytes, &mut weights);
    let cols = golden["shape"][0]
        .as_u64()
        .expect("a shape, fastest dimension first") as usize;
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    for (row, recorded) in golden["rows"].as_object().expect("rows") {
        let at = row.parse::<usize>().expect("a row number") * cols * 4;
        if bytes[at..at + cols * 4] != base64(recorded["base64"].as_str().expect("base64")) {
            return Err(format!("row {row} differs"));
        }
    }
    if sha256(&bytes) != golden["sha256_f32le"].as_str().expect("a checksum") {
        return Err("the checksum differs".to_owned());
    }
    Ok(())
}

/// Decodes standard base64 with padding.
fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut n_bits) = (0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
        }
    }
    out
}

/// FIPS 180-4, in hexadecimal. Its constants are the fractional parts of the square and cube roots of the first primes.
fn sha256(data: &[u8]) -> String {
    let primes: Vec<u64> = (2u64..)
        .filter(|n| (2..*n).all(|d| n % d != 0))
        .take(64)
        .collect();
    // The largest integer whose power does not exceed prime · 2^(32·power), less its whole part.
    let root = |prime: u64, power: u32| {
        let target = u128::from(prime) << (32 * power);
        let (mut low, mut high) = (0u128, 1u128 << 40);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if middle.pow(power) <= target {
                low = middle
            } else {
                high = middle
            }
        }
        low as u32
    };
    let k: Vec<u32> = primes.iter().map(|p| root(*p, 3)).collect();
    let mut hash: Vec<u32> = primes[..8].iter().map(|p| root(*p, 2)).collect();
    let mut message = data.to_vec();
    message.push(0x80);
    message.resize((message.len() + 8).next_multiple_of(64) - 8, 0);
    message.extend((data.len() as u64 * 8).to_be_bytes());
    for chunk in message.chunks_exact(64) {
        let mut w: Vec<u32> = chunk
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_be_bytes(*b))
            .collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(
                w[i - 16]
                    .wrapping_add(s0)
                    .wrapping_add(w[i - 7])
                    .wrapping_add(s1),
            );
        }
        let mut v = hash.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let one = v[7]
                .wrapping_add(s1)
                .wrapping_add(choice)
                .wrapping_add(k[i]);
            let one = one.wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(one);
            v[0] = one.wrapping_add(s0).wrapping_add(majority);
        }
        for (h, v) in hash.iter_mut().zip(v) {
            *h = h.wrapping_add(v);
        }
    }
    hash.iter().map(|h| format!("{h:08x}")).collect()
}

#[test]
fn the_checksum_is_sha256() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256(b"abc"), abc);
}
