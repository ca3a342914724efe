//! How far quantised files are from float32 arithmetic, beside llama.cpp on the same files: the table of
//! `docs/accuracy.md`.
//!
//! Both engines round activations to 8 bits. The reference is float32 arithmetic on the dequantised weights, so the
//! distance is that rounding and nothing else. Make the table with
//! `HEARTH_FIXTURES=FOLDER cargo test -p hearth-model --test accuracy -- --nocapture`.

mod common;

use std::path::{Path, PathBuf};

use common::{Runner, kernels};
use hearth_kernels::{KvType, WeightType};
use hearth_model::supported_families;
use hearth_testing::golden::{array, fixtures, json, tokens};
use serde_json::Value;

/// Geometric mean of our error divided by llama.cpp's, at most.
const MEAN_BOUND: f64 = 1.02;

/// The same for any one file.
const FILE_BOUND: f64 = 1.5;

/// Squared differences of some logits, and how many they are.
#[derive(Clone, Copy, Default)]
struct Squares {
    sum: f64,
    n: usize,
}

impl Squares {
    fn of(a: &[f32], b: &[f32]) -> Squares {
        assert_eq!(a.len(), b.len(), "as many logits");
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        Squares {
            sum: squares.sum(),
            n: a.len(),
        }
    }

    fn add(&mut self, other: Squares) {
        self.sum += other.sum;
        self.n += other.n;
    }

    fn rms(self) -> f64 {
        (self.sum / self.n as f64).sqrt()
    }
}

/// Errors against the reference over the same logits: ours and llama.cpp's.
fn errors(runner: &mut Runner, golden: &Value) -> [f64; 2] {
    let mut all = [Squares::default(); 2];
    for case in golden["cases"].as_array().expect("cases") {
        let got = runner.logits(&tokens(&case["tokens"]));
        let theirs = &case["llama_cpp"];
        if let Some(reference) = case.get("logits_all") {
            // llama.cpp's logits of every position are not recorded, but their distance is.
            let ours = Squares::of(&got, &array(reference));
            let rms = theirs["rms"].as_f64().expect("a distance");
            all[0].add(ours);
            all[1].add(Squares {
                sum: rms * rms * ours.n as f64,
                n: ours.n,
            });
        } else {
            let reference = array(&case["logits_last"]);
            all[0].add(Squares::of(&got[got.len() - reference.len()..], &reference));
            all[1].add(Squares::of(&array(&theirs["logits_last"]), &reference));
        }
    }
    all.map(Squares::rms)
}

fn quantised_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == "json"));
    files.sort();
    files
}

/// Why a file is not run, if it is not: its family or a type is not supported.
fn missing(golden: &Value) -> Option<String> {
    let family = golden["arch"].as_str().expect("a family");
    if !supported_families().any(|known| known == family) {
        return Some(format!("family {family}"));
    }
    let known = |ty: &str| WeightType::ALL.into_iter().any(|known| known.name() == ty);
    let types = golden["tensor_types"].as_object().expect("types").values();
    let unknown = types.filter_map(Value::as_str).find(|ty| !known(ty));
    unknown.map(|ty| format!("type {ty}"))
}

#[test]
fn errors_are_those_of_llama_cpp_or_less() {
    let Some(folder) = fixtures("accuracy of quantised models") else {
        return;
    };
    let (mut ratios, mut failures) = (Vec::new(), Vec::new());
    println!("| file | hearth | llama.cpp | ratio |\n|---|---|---|---|");
    for path in quantised_files(&folder.join("parity/quant")) {
        let golden = json(&path);
        let name = golden["name"].as_str().expect("a name");
        if let Some(missing) = missing(&golden) {
            println!("| {name} | not run: {missing} | | |");
            continue;
        }
        let file = path.with_extension("gguf");
        let mut runner = Runner::open(&file, 64, KvType::F16, kernels());
        let [ours, theirs] = errors(&mut runner, &golden);
        let ratio = ours / theirs;
        println!("| {name} | {ours:.5} | {theirs:.5} | {ratio:.3} |");
        // Float weights are multiplied exactly here; llama.cpp rounds activations. Such a file would flatter the mean.
        let is_float = ["F16", "BF16"]
            .iter()
            .any(|ty| name.ends_with(&format!("-{ty}")));
        if !is_float {
            ratios.push(ratio);
        }
        if ratio > FILE_BOUND {
            failures.push(format!("{name}: {ratio:.3} is more than {FILE_BOUND}"));
        }
    }
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    println!(
        "| geometric mean of {} quantised | | | {mean:.3} |",
        ratios.len()
    );
    if mean > MEAN_BOUND {
        failures.push(format!("the mean of {mean:.3} is more than {MEAN_BOUND}"));
    }
    assert!(!ratios.is_empty(), "no file was compared");
    assert!(failures.is_empty(), "{failures:#?}");
}
