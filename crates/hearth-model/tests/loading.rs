//! What is refused when a model is loaded, and with which words.

use std::sync::Arc;

use hearth_gguf::{Gguf, TensorType, Value};
use hearth_model::{Model, ModelOptions};
use hearth_testing::TinyModel;

fn load(model: &TinyModel) -> Result<Model, String> {
    load_with(model, ModelOptions::default())
}

fn load_with(model: &TinyModel, options: ModelOptions) -> Result<Model, String> {
    let gguf = Gguf::from_vec(model.build()).expect("the file itself is well formed");
    Model::load(Arc::new(gguf), options).map_err(|error| error.to_string())
}

fn tiny(family: &'static str, change: impl FnOnce(&mut TinyModel)) -> TinyModel {
    let mut model = TinyModel::new(family, TensorType::F32);
    change(&mut model);
    model
}

fn key(key: &str, value: impl Into<Value>) -> TinyModel {
    tiny("llama", |model| {
        model.keys.push((key.to_owned(), Some(value.into())))
    })
}

fn without_key(key: &str) -> TinyModel {
    tiny("llama", |model| model.keys.push((key.to_owned(), None)))
}

fn extra(name: &str, shape: &[u64], value: f32) -> TinyModel {
    tiny("llama", |model| {
        model.extra.push((name.to_owned(), shape.to_vec(), value))
    })
}

/// A mixture of eight experts, three of them used, with another value for a key or without it.
fn experts(key: &str, value: Option<Value>) -> TinyModel {
    tiny("qwen3moe", |model| {
        model.keys.push((format!("qwen3moe.{key}"), value));
    })
}

fn without_tensor(family: &'static str, name: &str) -> TinyModel {
    tiny(family, |model| model.without.push(name.to_owned()))
}

#[test]
fn every_family_loads() {
    for family in hearth_model::supported_families() {
        let model = load(&TinyModel::new(family, TensorType::F32)).unwrap();
        assert_eq!(model.hparams().architecture, family);
    }
}

#[test]
fn bad_settings_are_refused_by_key_value_and_limit() {
    let cases = [
        (
            without_key("general.architecture"),
            "no key `general.architecture`",
        ),
        (
            key("general.architecture", 7u32),
            "`general.architecture` holds u32, expected a string",
        ),
        (
            key("general.architecture", "gpt5"),
            "family `gpt5` is not supported, these are: llama, qwen2, qwen3",
        ),
        (
            without_key("llama.block_count"),
            "no key `llama.block_count`, which llama needs",
        ),
        (
            key("llama.block_count", 0u32),
            "`llama.block_count` is 0, must be between 1 and 1024",
        ),
        (
            key("llama.block_count", u32::MAX),
            "`llama.block_count` is 4294967295, must be between 1 and 1024",
        ),
        (key("llama.block_count", -1i32), "`llama.block_count` is -1"),
        (
            key("llama.block_count", "two"),
            "`llama.block_count` holds string, expected an integer",
        ),
        (
            key("llama.block_count", 3u32),
            "no tensor `blk.2.attn_norm.weight` of shape [72]",
        ),
        (
            key("llama.block_count", 1u32),
            "tensor `blk.1.attn_norm.weight`, which the llama family does not use (9 such in all)",
        ),
        (
            key("llama.embedding_length", u64::MAX),
            "must be between 1 and 1048576",
        ),
        (
            key("llama.embedding_length", 73u32),
            "`token_embd.weight` has shape [293, 72], the model's settings ask for [293, 73]",
        ),
        (
            key("llama.feed_forward_length", 0u32),
            "`llama.feed_forward_length` is 0",
        ),
        (
            key("llama.attention.head_count", 0u32),
            "`llama.attention.head_count` is 0",
        ),
        (
            key("llama.attention.head_count_kv", 3u32),
            "`llama.attention.head_count_kv` is 3, must divide attention.head_count, which is 8",
        ),
        (
            key("llama.attention.key_length", 0u32),
            "`llama.attention.key_length` is 0",
        ),
        (
            key("llama.attention.key_length", 4096u32),
            "must be between 1 and 1024",
        ),
        (
            key("llama.attention.layer_norm_rms_epsilon", f32::NAN),
            "layer_norm_rms_epsilon` is NaN",
        ),
        (
            key("llama.attention.layer_norm_rms_epsilon", 0.0f32),
            "must be above 0 and below 1",
        ),
        (
            without_key("llama.attention.layer_norm_rms_epsilon"),
            "no key `llama.attention.layer_norm_rms_epsilon`",
        ),
        (
            tiny("qwen2", |model| model.sliding_window = Some(16)),
            "`qwen2.attention.sliding_window` is 16, which is not supported for qwen2: which layers",
        ),
        (
            tiny("qwen3", |model| model.sliding_window = Some(16)),
            "`qwen3.attention.sliding_window` is 16",
        ),
        (
            key("llama.rope.scaling.attn_factor", 1.25f32),
            "`llama.rope.scaling.attn_factor` is 1.25, must be 1 without yarn or longrope",
        ),
        (
            tiny("llama", |model| {
                for (key, value) in [
                    ("type", Value::String("yarn".into())),
                    ("factor", Value::F32(4.0)),
                    ("original_context_length", Value::U32(128)),
                    ("yarn_attn_factor", Value::F32(1.3)),
                ] {
                    model
                        .keys
                        .push((format!("llama.rope.scaling.{key}"), Some(value)));
                }
            }),
            "`llama.rope.scaling.yarn_attn_factor` is 1.3, must be 1 or the factor of the yarn formula, 1.1386",
        ),
        (
            key("llama.attention.sliding_window", -4i32),
            "`llama.attention.sliding_window` is -4",
        ),
        (
            key("llama.attention.scale", f32::INFINITY),
            "`llama.attention.scale` is inf",
        ),
        (
            key("llama.rope.dimension_count", 7u32),
            "`llama.rope.dimension_count` is 7, must be even",
        ),
        (
            key("llama.rope.dimension_count", 40u32),
            "must be between 1 and 20",
        ),
        (
            key("llama.rope.freq_base", f32::NEG_INFINITY),
            "`llama.rope.freq_base` is -inf, must be above 1",
        ),
        (
            key("llama.rope.scaling.type", "ntk"),
            "`llama.rope.scaling.type` is `ntk`, must be none, linear, yarn or longrope",
        ),
        (
            key("llama.rope.scaling.type", "yarn"),
            "no key `llama.rope.scaling.factor`",
        ),
        (
            key("llama.context_length", 0u32),
            "`llama.context_length` is 0",
        ),
        (
            key("tokenizer.ggml.tokens", 3u32),
            "`tokenizer.ggml.tokens` holds u32, expected a list",
        ),
        (
            key("llama.feed_forward_length", 8u32),
            "the model's settings ask for [8, 72]",
        ),
    ];
    check(&cases);
}

#[test]
fn settings_we_do_not_honour_are_refused() {
    let cases = [
        (
            tiny("qwen3", |model| {
                model
                    .keys
                    .push(("qwen3.expert_count".to_owned(), Some(8u32.into())))
            }),
            "`qwen3.expert_count` is 8, which is not supported for qwen3: experts where this family, or this file, has none",
        ),
        (
            key("llama.expert_used_count", 2u32),
            "`llama.expert_used_count` is 2, which is not supported for llama: experts where",
        ),
        (
            experts("expert_weights_norm", Some(false.into())),
            "weights of experts that do not add up to 1",
        ),
        (
            experts("expert_weights_scale", Some(2.5f32.into())),
            "`qwen3moe.expert_weights_scale` is 2.5",
        ),
        (
            experts("expert_gating_func", Some(2u32.into())),
            "experts chosen by other than a softmax",
        ),
        (
            experts("expert_shared_count", Some(1u32.into())),
            "shared experts",
        ),
        (
            key("llama.logit_scale", 0.5f32),
            "`llama.logit_scale` is 0.5",
        ),
        (
            key("llama.final_logit_softcapping", 30.0f32),
            "capped logits",
        ),
        (
            key("llama.attention.causal", false),
            "attention that looks ahead",
        ),
        (
            key("llama.made_up", "by somebody"),
            "`llama.made_up` is `by somebody`, which is not supported for llama: a setting this version does not know",
        ),
    ];
    check(&cases);
    for neutral in [
        key("llama.expert_count", 0u32),
        experts("expert_weights_norm", Some(true.into())),
        experts("expert_gating_func", Some(1u32.into())),
        key("llama.logit_scale", 1.0f32),
        key("llama.attention.causal", true),
        key("other.made_up", 3u32),
    ] {
        load(&neutral).unwrap();
    }
}

#[test]
fn experts_are_counted_and_bound() {
    let shaped = |name: &str, shape: &[u64]| {
        let name = format!("blk.1.{name}.weight");
        tiny("qwen3moe", |model| {
            model.without.push(name.clone());
            model.extra.push((name, shape.to_vec(), 1.0));
        })
    };
    let cases = [
        (
            experts("expert_count", None),
            "no key `qwen3moe.expert_count`, which qwen3moe needs",
        ),
        (
            experts("expert_count", Some(0u32.into())),
            "`qwen3moe.expert_count` is 0, must be between 1 and 4096",
        ),
        (
            experts("expert_count", Some(u32::MAX.into())),
            "`qwen3moe.expert_count` is 4294967295, must be between 1 and 4096",
        ),
        (
            experts("expert_count", Some("many".into())),
            "`qwen3moe.expert_count` holds string, expected an integer",
        ),
        (
            experts("expert_count", Some(4096u32.into())),
            "`blk.0.ffn_gate_inp.weight` has shape [8, 72], the model's settings ask for [4096, 72]",
        ),
        (
            experts("expert_used_count", None),
            "no key `qwen3moe.expert_used_count`",
        ),
        (
            experts("expert_used_count", Some(0u32.into())),
            "`qwen3moe.expert_used_count` is 0, must be between 1 and 4096",
        ),
        (
            experts("expert_used_count", Some(9u32.into())),
            "`qwen3moe.expert_used_count` is 9, must not be above expert_count, which is 8",
        ),
        (
            experts("expert_feed_forward_length", Some(0u32.into())),
            "`qwen3moe.expert_feed_forward_length` is 0",
        ),
        (
            experts("expert_feed_forward_length", Some(45u32.into())),
            "`blk.0.ffn_gate_exps.weight` has shape [8, 44, 72], the model's settings ask for [8, 45, 72]",
        ),
        (
            without_tensor("qwen3moe", "blk.1.ffn_gate_inp.weight"),
            "no tensor `blk.1.ffn_gate_inp.weight` of shape [8, 72]",
        ),
        (
            without_tensor("qwen3moe", "blk.0.ffn_up_exps.weight"),
            "no tensor `blk.0.ffn_up_exps.weight` of shape [8, 44, 72]",
        ),
        (
            shaped("ffn_down_exps", &[8, 44, 72]),
            "`blk.1.ffn_down_exps.weight` has shape [8, 44, 72], the model's settings ask for [8, 72, 44]",
        ),
        (
            shaped("ffn_up_exps", &[352, 72]),
            "`blk.1.ffn_up_exps.weight` has shape [352, 72]",
        ),
        (
            key("llama.expert_count", 8u32),
            "no key `llama.expert_used_count`",
        ),
        (
            tiny("llama", |model| model.experts = Some((4, 5))),
            "`llama.expert_used_count` is 5, must not be above expert_count, which is 4",
        ),
        (
            tiny("qwen3", |model| model.experts = Some((4, 2))),
            "`qwen3.expert_count` is 4, which is not supported",
        ),
    ];
    check(&cases);
    // All of one; and without a width of their own, experts are as wide as the settings' MLP.
    for loaded in [
        tiny("llama", |model| model.experts = Some((1, 1))),
        tiny("llama", |model| model.experts = Some((3, 3))),
        experts("expert_feed_forward_length", None),
    ] {
        assert_eq!(load(&loaded).unwrap().hparams().experts.unwrap().n_ff, 44);
    }
}

#[test]
fn tensors_are_bound_strictly_both_ways() {
    let tensor = |name: &str| without_tensor("llama", name);
    let cases = [
        (
            tensor("token_embd.weight"),
            "no tensor `token_embd.weight` of shape [293, 72]",
        ),
        (
            tensor("blk.1.ffn_down.weight"),
            "no tensor `blk.1.ffn_down.weight` of shape [72, 44]",
        ),
        (
            tensor("output_norm.weight"),
            "no tensor `output_norm.weight` of shape [72]",
        ),
        (
            without_tensor("qwen2", "blk.0.attn_v.bias"),
            "no tensor `blk.0.attn_v.bias` of shape [80]",
        ),
        (
            without_tensor("qwen3", "blk.0.attn_k_norm.weight"),
            "no tensor `blk.0.attn_k_norm.weight` of shape [20]",
        ),
        (
            extra("blk.0.attn_q_norm.weight", &[20], 1.0),
            "tensor `blk.0.attn_q_norm.weight`, which the llama family does not use (1 such in all)",
        ),
        (
            extra("blk.0.attn_q.bias", &[7], 1.0),
            "`blk.0.attn_q.bias` has shape [7], the model's settings ask for [160]",
        ),
        (
            extra("blk.0.attn_q.bias", &[160], f32::NAN),
            "tensor `blk.0.attn_q.bias` holds NaN at index 0",
        ),
        (
            extra("rope_freqs.weight", &[9], 1.0),
            "`rope_freqs.weight` has shape [9], the model's settings ask for [10]",
        ),
        (
            extra("rope_freqs.weight", &[10], 0.0),
            "`rope_freqs.weight` holds 0 at index 0, a frequency factor must be above 0",
        ),
    ];
    check(&cases);
    // An output matrix may be missing, biases may be there, and relics may stay.
    load(&tensor("output.weight")).unwrap();
    load(&extra("blk.0.attn_q.bias", &[160], 0.5)).unwrap();
    load(&extra("blk.1.ffn_down.bias", &[72], 0.5)).unwrap();
    load(&extra("blk.0.attn_rot_embd", &[10], 1.0)).unwrap();
}

#[test]
fn a_type_without_kernels_is_refused_with_the_list() {
    let mut model = TinyModel::new("llama", TensorType::F32);
    model.weight = TensorType::I8;
    let error = load(&model).unwrap_err();
    assert!(error.starts_with("tensor `token_embd.weight` has type I8, which is not supported here; supported are F32, F16"), "{error}");
}

#[test]
fn the_context_is_bounded() {
    let model = TinyModel::new("llama", TensorType::F32);
    assert_eq!(load(&model).unwrap().n_ctx(), 512);
    assert_eq!(
        load_with(&model, ModelOptions { n_ctx: Some(9) })
            .unwrap()
            .n_ctx(),
        9
    );
    for n_ctx in [0, usize::MAX] {
        let error = load_with(&model, ModelOptions { n_ctx: Some(n_ctx) }).unwrap_err();
        assert_eq!(
            error,
            format!("a context of {n_ctx} positions was asked for, the limit is 134217728")
        );
    }
}

/// Every kind of rope scaling reaches the frequencies: no two give the same.
#[test]
fn each_rope_scaling_has_its_own_frequencies() {
    let scaled = |pairs: &[(&str, Value)], factors: &[(&str, f32)], n_ctx: Option<usize>| {
        let model = tiny("llama", |model| {
            model.keys.extend(
                pairs
                    .iter()
                    .map(|(key, value)| (format!("llama.rope.{key}"), Some(value.clone()))),
            );
            model.extra.extend(
                factors
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), vec![10], *value)),
            );
        });
        load_with(&model, ModelOptions { n_ctx })
            .unwrap()
            .plan()
            .ropes[0]
            .clone()
    };
    let kind = |name: &str| ("scaling.type", Value::from(name));
    let factor = ("scaling.factor", Value::F32(4.0));
    let original = ("scaling.original_context_length", Value::U32(128));
    let long = [
        ("rope_factors_long.weight", 3.0),
        ("rope_factors_short.weight", 1.5),
    ];
    let longrope = [kind("longrope"), original.clone()];
    let all = [
        scaled(&[], &[], None),
        scaled(std::slice::from_ref(&factor), &[], None),
        scaled(&[("freq_base", Value::F32(500_000.0))], &[], None),
        scaled(
            &[
                ("dimension_count", Value::U32(20)),
                ("freq_base", Value::F32(5e5)),
                factor.clone(),
            ],
            &[],
            None,
        ),
        scaled(&[kind("yarn"), factor.clone(), original.clone()], &[], None),
        scaled(
            &[
                kind("yarn"),
                factor.clone(),
                original.clone(),
                ("scaling.yarn_beta_fast", Value::F32(8.0)),
            ],
            &[],
            None,
        ),
        scaled(
            &[
                kind("yarn"),
                factor.clone(),
                original.clone(),
                ("scaling.attn_factor", Value::F32(1.5)),
            ],
            &[],
            None,
        ),
        scaled(&[], &[("rope_freqs.weight", 2.0)], None),
        scaled(&longrope, &long, None),
        scaled(&longrope, &long, Some(128)),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(
            all[..index].iter().all(|other| other != one),
            "case {index} equals an earlier one"
        );
    }
    // The same in other words.
    for (name, neutral) in [
        ("scaling.attn_factor", 1.0),
        ("scaling.yarn_attn_factor", 1.0),
        ("scaling.yarn_attn_factor", 1.138_629_4),
    ] {
        let keys = [
            kind("yarn"),
            factor.clone(),
            original.clone(),
            (name, Value::F32(neutral)),
        ];
        assert_eq!(scaled(&keys, &[], None), all[4], "{name} = {neutral}");
    }
    let one = ("scaling.attn_factor", Value::F32(1.0));
    assert_eq!(
        scaled(&[kind("linear"), factor.clone(), one], &[], None),
        all[1]
    );
    assert_eq!(scaled(&[kind("linear"), factor.clone()], &[], None), all[1]);
    assert_eq!(
        scaled(&[("scale_linear", Value::F32(4.0))], &[], None),
        all[1]
    );
    assert_eq!(scaled(&[kind("none"), factor], &[], None), all[0]);
    assert_eq!(scaled(&longrope, &long, Some(129)), all[8]);
}

#[test]
fn the_plan_prints_operations_shapes_and_types() {
    let model = load(&tiny("qwen3", |_| {})).unwrap();
    let text = model.plan().to_string();
    for line in [
        "plan of family qwen3: 34 operations",
        "%0[n, 72] = token_embd.weight [293, 72] F32",
        "of %1[n, 72]: %2[n, 160] = blk.0.attn_q.weight [160, 72] F32; %3[n, 80] = blk.0.attn_k.weight [80, 72] F32",
        "8 heads on 4",
        "wanted rows of",
        "output.weight [293, 72] F32",
        "rows whose logits are wanted",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let text = load(&tiny("qwen3moe", |_| {})).unwrap().plan().to_string();
    for line in [
        "= blk.0.ffn_gate_inp.weight [8, 72] F32",
        "moe         %",
        "= 3 experts of %",
        "Silu(blk.1.ffn_gate_exps.weight [8, 44, 72] F32) · blk.1.ffn_up_exps.weight [8, 44, 72] F32, then blk.1.ffn_down_exps.weight [8, 72, 44] F32",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_window_is_applied_where_every_layer_has_it() {
    let window = |family, window| {
        let model = load(&tiny(family, |model| model.sliding_window = Some(window))).unwrap();
        (
            model.plan().window(),
            model.plan().to_string().contains("window"),
        )
    };
    assert_eq!(window("llama", 16), (Some(16), true));
    assert_eq!(window("llama", 0), (None, false));
    assert_eq!(window("qwen2", 0), (None, false));
    // As long as the model was trained: switched off in all but name.
    assert_eq!(window("qwen2", 512), (None, false));
}

fn check(cases: &[(TinyModel, &str)]) {
    let mut failures = Vec::new();
    for (model, expected) in cases {
        match load(model) {
            Ok(_) => failures.push(format!("loaded, expected: {expected}")),
            Err(error) if !error.contains(expected) => {
                failures.push(format!("{error}\n    expected: {expected}"))
            }
            Err(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
