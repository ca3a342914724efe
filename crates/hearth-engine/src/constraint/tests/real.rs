//! Vocabularies of published models, where `HEARTH_FIXTURES` has them: the same promises, and what they cost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hearth_gguf::Gguf;
use hearth_text::{Tokenizer, parse::ToolFormat};
use serde_json::{Value, json};

use super::super::*;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "note": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"enum": ["small", "smaller", "smallest"]},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,8}$"}, "maxItems": 4},
            "more": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
        },
        "required": ["name", "note", "age", "score", "when", "kind", "tags", "more"],
        "additionalProperties": false,
    })
}

/// Answers drawn from a real vocabulary, and the time of each mask.
fn draw(
    constraint: &Constraint,
    tokenizer: &Tokenizer,
    seed: u64,
    max: usize,
) -> (Option<String>, Vec<Duration>) {
    let mut constraint = constraint.clone();
    let mut logits = vec![0.0_f32; tokenizer.n_vocab()];
    let (mut bytes, mut times, mut random) = (Vec::new(), Vec::new(), seed);
    for _ in 0..max {
        logits.fill(0.0);
        let begin = Instant::now();
        constraint.apply(&mut logits).expect("there is a way on");
        times.push(begin.elapsed());
        // Quotation marks are one token in a thousand: every fourth draw is made from tokens that have one.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let is_closing = |token: &u32| {
            tokenizer.is_end_of_generation(*token)
                || tokenizer
                    .piece(*token)
                    .is_some_and(|piece| piece.contains(&b'"') || piece == b"}")
        };
        let allowed: Vec<u32> = (0..logits.len() as u32)
            .filter(|&token| logits[token as usize] == 0.0)
            .collect();
        let closing: Vec<u32> = allowed.iter().copied().filter(is_closing).collect();
        let from = if closing.is_empty() || (random >> 40) % 4 > 0 {
            &allowed
        } else {
            &closing
        };
        let token = from[(random >> 33) as usize % from.len()];
        constraint.take(token).expect("it is allowed");
        if tokenizer.is_end_of_generation(token) {
            return (Some(String::from_utf8(bytes).expect("UTF-8")), times);
        }
        bytes.extend_from_slice(tokenizer.piece(token).unwrap_or_default());
    }
    (None, times)
}

#[test]
fn published_vocabularies_are_held_to_schemas() {
    let Some(folder) = hearth_testing::golden::fixtures("vocabularies of published models") else {
        return;
    };
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema())
        .expect("a schema");
    for name in ["qwen2", "llama-bpe", "llama-spm", "gpt-2", "phi-3"] {
        let path = folder.join(format!("parity/tokenizers/ggml-vocab-{name}.gguf"));
        let gguf = Gguf::open(&path).expect("the fixture is there");
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).expect("it is whole"));
        let grammars = Grammars::new(&tokenizer);
        let begin = Instant::now();
        let grammar = |answer| Grammar {
            thinking: None,
            answer,
        };
        grammars
            .compile(&grammar(AnswerGrammar::Regex("a".to_owned())))
            .expect("it compiles");
        let built = begin.elapsed();
        let begin = Instant::now();
        let constraint = grammars
            .compile(&grammar(AnswerGrammar::JsonSchema(schema())))
            .expect("it compiles");
        let compiled = begin.elapsed();
        let (mut times, mut n_ended) = (Vec::new(), 0);
        for seed in 1..6 {
            let (text, more) = draw(&constraint, &tokenizer, seed, 600);
            times.extend(more);
            if let Some(text) = text {
                n_ended += 1;
                let value: Value =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert!(validator.is_valid(&value), "{name}: {text}");
            }
        }
        times.sort();
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        println!(
            "{name}: {} tokens, vocabulary {built:.1?}, schema {compiled:.1?}, {} masks: mean {mean:.1?}, median {:.1?}, most {:.1?}; {n_ended} of 5 ended",
            tokenizer.n_vocab(),
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1],
        );
        assert!(n_ended > 0, "{name}");
        let tools = (0..30).map(|n| ToolSpec {
            name: format!("tool_{n}"),
            schema: Some(schema()),
            is_strict: false,
        });
        let begin = Instant::now();
        let tools = AnswerGrammar::Tools {
            format: ToolFormat::Hermes,
            tools: tools.collect(),
            choice: ToolGrammarChoice::Auto,
            is_parallel: true,
        };
        grammars.compile(&grammar(tools)).expect("it compiles");
        println!("{name}: 30 tools {:.1?}", begin.elapsed());
    }
}
