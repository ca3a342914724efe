//! The stories a small trained model writes, against recorded ones.

use std::{num::NonZeroUsize, ops::ControlFlow, sync::Arc};

use hearth_engine::{Generator, GeneratorOptions, Request};
use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType, Level};
use hearth_testing::golden::{fixtures, json, tokens};

#[test]
fn greedy_stories_are_the_recorded_ones() {
    let Some(folder) = fixtures("the stories of a trained model") else {
        return;
    };
    let golden = json(&folder.join("real/stories260K.json"));
    for kv_type in [KvType::F16, KvType::F32] {
        let gguf = Arc::new(Gguf::open(&folder.join("real/stories260K.gguf")).unwrap());
        let kernels = Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap();
        let mut generator = Generator::load(
            gguf,
            kernels,
            GeneratorOptions {
                kv_type,
                ..GeneratorOptions::default()
            },
        )
        .unwrap();
        for case in golden["cases"].as_array().expect("cases") {
            let prompt = generator.encode(case["prompt"].as_str().expect("a prompt"));
            assert_eq!(prompt, tokens(&case["tokens"]), "tokens of the prompt");
            let expected = tokens(&case["greedy"]);
            let request = Request {
                max_tokens: Some(expected.len()),
                ..Request::new(prompt)
            };
            let answer = generator
                .generate(&request, &mut |_| ControlFlow::Continue(()))
                .unwrap();
            println!(
                "{}:{}\n",
                case["prompt"].as_str().unwrap_or_default(),
                answer.text
            );
            assert_eq!(answer.tokens, expected, "{}", case["id"]);
            // The recorded text was decoded alone, where a first space is taken away.
            assert_eq!(
                Some(answer.text.trim_start()),
                case["greedy_text"].as_str().map(str::trim_start),
                "{}",
                case["id"]
            );
        }
    }
}
