//! Logits of whole models against a float32 reference (transformers), with recorded tolerances.

mod common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Runner, kernels};
use hearth_gguf::Gguf;
use hearth_kernels::{KvType, WeightType};
use hearth_model::{Model, ModelOptions, supported_families};
use hearth_testing::golden::{array, fixtures, json, tokens};
use serde_json::Value;

/// Language models of the families there are; the others in the folder belong to families to come.
const MODELS: &[&str] = &[
    "llama3",
    "llama-tied",
    "mistral",
    "mistral-swa",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "mixtral",
];

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "as many logits as the reference");
    a.iter().zip(b).fold(0.0, |max, (x, y)| {
        if (x - y).is_nan() {
            f32::INFINITY
        } else {
            max.max((x - y).abs())
        }
    })
}

/// Largest difference of all recorded logits of a case.
fn logits_difference(runner: &mut Runner, case: &Value) -> f32 {
    let ids = tokens(&case["tokens"]);
    let got = runner.logits(&ids);
    let n_vocab = runner.model.n_vocab();
    let last = max_difference(&got[got.len() - n_vocab..], &array(&case["logits_last"]));
    match case.get("logits_all") {
        Some(all) => last.max(max_difference(&got, &array(all))),
        None => last,
    }
}

/// Keys, queries and values with 8 bits have errors of up to 1/254 of the largest in their block, some eight times those of the
/// reduced precision that the relaxed tolerance was made for. Continuations may then part where two tokens are close.
const Q8_0_FACTOR: f32 = 8.0;

/// Where a token goes to the best of several experts, the same errors may also change that choice, which is a jump and no small
/// difference: the fixtures keep the choices apart by more than f16 moves them, not by more than 8 bits do.
const Q8_0_FACTOR_EXPERTS: f32 = 16.0;

#[test]
fn logits_and_greedy_continuations_of_float_models() {
    let Some(folder) = fixtures("parity of float models") else {
        return;
    };
    println!(
        "{:<14}{:>4}  {:<8}{:>12}{:>12}{:>8}  greedy",
        "model", "kv", "case", "max diff", "allowed", "gold"
    );
    let mut failures = Vec::new();
    for name in MODELS {
        let golden = json(&folder.join(format!("parity/lm/{name}.json")));
        let file = folder
            .join("parity/lm")
            .join(golden["gguf"].as_str().expect("a file name"));
        for (kv_type, bound) in [
            (KvType::F32, "max_abs"),
            (KvType::F16, "relaxed_max_abs"),
            (KvType::Q8_0, "relaxed_max_abs"),
        ] {
            let tolerance = golden["tolerance"][bound].as_f64().expect("a tolerance") as f32;
            let n_ctx = golden["n_ctx"].as_u64().expect("a context") as usize;
            let mut runner = Runner::open(&file, n_ctx, kv_type, kernels());
            let has_experts = runner.model.hparams().experts.is_some();
            let factor = match kv_type {
                KvType::F32 | KvType::F16 => 1.0,
                KvType::Q8_0 if has_experts => Q8_0_FACTOR_EXPERTS,
                KvType::Q8_0 => Q8_0_FACTOR,
            };
            let allowed = factor * tolerance;
            for case in golden["cases"].as_array().expect("cases") {
                let id = case["id"].as_str().expect("an id");
                let difference = logits_difference(&mut runner, case);
                let is_gold = case["gold"] == true;
                let expected = tokens(&case["greedy"]);
                let greedy = runner.greedy(&tokens(&case["tokens"]), expected.len());
                let n_equal = greedy
                    .iter()
                    .zip(&expected)
                    .take_while(|(a, b)| a == b)
                    .count();
                println!(
                    "{name:<14}{:>4}  {id:<8}{difference:>12.6}{allowed:>12.6}{is_gold:>8}  {n_equal}/{}",
                    kv_type.name(),
                    expected.len(),
                );
                let must_agree = is_gold && kv_type != KvType::Q8_0;
                if difference > allowed || (must_agree && n_equal < expected.len()) {
                    failures.push(format!(
                        "{name} {id} with {} keys and values",
                        kv_type.name()
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Mean over the positions of KL(reference ‖ ours), in f64.
fn mean_kl(reference: &[f32], got: &[f32], n_vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
        row.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
    };
    let rows = reference
        .chunks_exact(n_vocab)
        .zip(got.chunks_exact(n_vocab));
    let n_rows = rows.len() as f64;
    let kl = rows.map(|(p, q)| {
        let (p, q) = (log_softmax(p), log_softmax(q));
        p.iter()
            .zip(&q)
            .map(|(p, q)| p.exp() * (p - q))
            .sum::<f64>()
    });
    kl.sum::<f64>() / n_rows
}

/// Files of a folder with that ending, sorted.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

#[test]
fn logits_of_quantised_models() {
    let Some(folder) = fixtures("parity of quantised models") else {
        return;
    };
    let supported: Vec<&str> = WeightType::ALL.into_iter().map(WeightType::name).collect();
    let (mut failures, mut seen) = (Vec::new(), BTreeSet::new());
    println!(
        "{:<22}{:<8}{:>4}{:>12}{:>12}{:>12}{:>12}",
        "file", "case", "kv", "max diff", "allowed", "mean kl", "allowed"
    );
    for path in files(&folder.join("parity/quant"), "json") {
        let golden = json(&path);
        let name = golden["name"].as_str().expect("a name");
        let types: BTreeSet<&str> = golden["tensor_types"]
            .as_object()
            .expect("types")
            .values()
            .filter_map(Value::as_str)
            .collect();
        let file = path.with_extension("gguf");
        let family = golden["arch"].as_str().expect("a family");
        if !supported_families().any(|known| known == family)
            || types.iter().any(|ty| !supported.contains(ty))
        {
            let error = Model::load(
                Arc::new(Gguf::open(&file).unwrap()),
                ModelOptions::default(),
            )
            .unwrap_err()
            .to_string();
            println!("{name:<22}refused: {error}");
            let culprit = types
                .iter()
                .find(|ty| !supported.contains(ty) && error.contains(*ty))
                .copied();
            assert!(
                error.contains(culprit.unwrap_or(family)) && error.contains("supported"),
                "{name}: {error}"
            );
            continue;
        }
        seen.extend(types.iter().map(|ty| (*ty).to_owned()));
        let [max_allowed, kl_allowed] = ["max_abs", "mean_kl"]
            .map(|bound| golden["tolerance"][bound].as_f64().expect("a tolerance"));
        for kv_type in [KvType::F32, KvType::F16] {
            let mut runner = Runner::open(&file, 512, kv_type, kernels());
            for case in golden["cases"].as_array().expect("cases") {
                let id = case["id"].as_str().expect("an id");
                let got = runner.logits(&tokens(&case["tokens"]));
                let n_vocab = runner.model.n_vocab();
                let is_whole = case.get("logits_all").is_some();
                let reference = array(
                    &case[if is_whole {
                        "logits_all"
                    } else {
                        "logits_last"
                    }],
                );
                let got = &got[got.len() - reference.len()..];
                let difference = f64::from(max_difference(got, &reference));
                let kl = mean_kl(&reference, got, n_vocab);
                let kv = kv_type.name();
                println!(
                    "{name:<22}{id:<8}{kv:>4}{difference:>12.6}{max_allowed:>12.6}{kl:>12.6}{kl_allowed:>12.6}"
                );
                // A mean needs more than one position.
                if difference > max_allowed || is_whole && kl > kl_allowed {
                    failures.push(format!("{name} {id} with {kv} keys and values"));
                }
            }
        }
    }
    println!("types seen: {seen:?}");
    assert!(failures.is_empty(), "{failures:#?}");
    let missing: Vec<_> = supported.iter().filter(|ty| !seen.contains(**ty)).collect();
    assert!(missing.is_empty(), "no file has {missing:?}");
}

#[test]
fn trained_models() {
    let Some(folder) = fixtures("parity of trained models") else {
        return;
    };
    let folder = folder.join("real");
    let golden = json(&folder.join("stories260K.json"));
    let mut failures = Vec::new();
    for (kv_type, bound) in [(KvType::F32, "max_abs"), (KvType::F16, "relaxed_max_abs")] {
        let mut runner = Runner::open(&folder.join("stories260K.gguf"), 2048, kv_type, kernels());
        check_stories(
            &mut runner,
            &golden,
            golden["tolerance"][bound].as_f64().expect("a tolerance"),
            kv_type,
            &mut failures,
        );
        for quantised in golden["quantized"].as_array().expect("quantised files") {
            let file = folder.join(quantised["gguf"].as_str().expect("a file name"));
            let mut runner = Runner::open(&file, 2048, kv_type, kernels());
            let allowed = quantised["tolerance"]["max_abs"]
                .as_f64()
                .expect("a tolerance");
            for case in quantised["cases"].as_array().expect("cases") {
                let difference = f64::from(logits_difference(&mut runner, case));
                println!(
                    "{} {} {}: {difference:.6} of {allowed:.6}",
                    quantised["gguf"],
                    kv_type.name(),
                    case["id"]
                );
                if difference > allowed {
                    failures.push(format!("{} {}", quantised["gguf"], case["id"]));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn check_stories(
    runner: &mut Runner,
    golden: &Value,
    allowed: f64,
    kv_type: KvType,
    failures: &mut Vec<String>,
) {
    for case in golden["cases"].as_array().expect("cases") {
        let difference = f64::from(logits_difference(runner, case));
        let expected = tokens(&case["greedy"]);
        let greedy = runner.greedy(&tokens(&case["tokens"]), expected.len());
        let n_equal = greedy
            .iter()
            .zip(&expected)
            .take_while(|(a, b)| a == b)
            .count();
        let (kv, n) = (kv_type.name(), expected.len());
        println!(
            "stories260K {kv} {}: {difference:.6} of {allowed:.6}, greedy {n_equal} of {n}",
            case["id"]
        );
        if difference > allowed || n_equal < n {
            failures.push(format!("{} with {kv} keys and values", case["id"]));
        }
    }
    let text = tokens(&golden["text"]["tokens"]);
    let logits = runner.logits(&text);
    let recorded = golden["text"]["nll"].as_array().expect("a list");
    let n_vocab = runner.model.n_vocab();
    let nll: Vec<f64> = logits
        .chunks_exact(n_vocab)
        .zip(&text[1..])
        .map(|(row, &next)| {
            row.iter()
                .map(|x| f64::from(x - row[next as usize]).exp())
                .sum::<f64>()
                .ln()
        })
        .collect();
    let worst = nll
        .iter()
        .zip(recorded)
        .map(|(a, b)| (a - b.as_f64().expect("a number")).abs())
        .fold(0.0, f64::max);
    println!(
        "stories260K {}: nll of a story within {worst:.6}",
        kv_type.name()
    );
    // A logit's error moves a log-probability by at most twice as much.
    if worst > 2.0 * allowed || nll.len() != recorded.len() {
        failures.push(format!("nll with {} keys and values", kv_type.name()));
    }
}

#[test]
fn an_old_random_model() {
    let Some(folder) = fixtures("parity of an old random model") else {
        return;
    };
    let golden = json(&folder.join("real/llama-2-tiny-random.json"));
    let mut runner = Runner::open(
        &folder.join("real/llama-2-tiny-random.gguf"),
        4096,
        KvType::F32,
        kernels(),
    );
    for case in golden["cases"]
        .as_array()
        .or(golden["prompts"].as_array())
        .expect("cases")
    {
        let ids = tokens(case.get("tokens").or(case.get("ids")).expect("token ids"));
        let logits = runner.logits(&ids);
        let last = &logits[logits.len() - runner.model.n_vocab()..];
        let mut order: Vec<u32> = (0..last.len() as u32).collect();
        order.sort_by(|a, b| last[*b as usize].total_cmp(&last[*a as usize]));
        let top: Vec<(u32, f64)> = case["top10"]
            .as_array()
            .expect("the ten best")
            .iter()
            .map(|pair| {
                (
                    pair[0].as_u64().expect("an id") as u32,
                    pair[1].as_f64().expect("a logit"),
                )
            })
            .collect();
        for (place, (id, logit)) in top.iter().enumerate() {
            assert_eq!(order[place], *id, "place {place} after {ids:?}");
            // The logits spread by 0.055; float32 arithmetic stays far below a thousandth of that.
            assert!(
                (f64::from(last[*id as usize]) - logit).abs() < 5e-5,
                "logit of {id}"
            );
        }
    }
}
