//! Guessing tokens ahead changes no bit of an answer: tokens, logits, events, their order, what is kept.

use std::{num::NonZeroUsize, ops::ControlFlow, path::Path, sync::Arc};

use hearth_engine::{
    Event, FinishReason, Generator, GeneratorOptions, Guesses, Request, SamplingParams, Speculate,
};
use hearth_gguf::{Gguf, StringArray, TensorType};
use hearth_kernels::{Kernels, KvType, Level};
use hearth_testing::{TinyModel, golden::fixtures, tiny_model::N_VOCAB};

fn kernels() -> Kernels {
    Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap()
}

fn gguf(model: &TinyModel) -> Arc<Gguf> {
    Arc::new(Gguf::from_vec(model.build()).unwrap())
}

fn generator(gguf: &Arc<Gguf>, draft: Option<&Arc<Gguf>>, options: GeneratorOptions) -> Generator {
    let mut generator = Generator::load(gguf.clone(), kernels(), options).unwrap();
    if let Some(draft) = draft {
        generator.add_draft(draft.clone()).unwrap();
    }
    generator
}

/// Everything that can be seen of an answer, times aside.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Tokens with the bits of their logits, pieces of text, progress: in order.
    events: Vec<(Option<u32>, Vec<u32>, String)>,
    tokens: Vec<u32>,
    text: String,
    finish: FinishReason,
    n_drawn: usize,
    n_reused: usize,
}

/// Runs a request, ends it after `n_events`, and tells what guessing it took.
fn run_until(
    generator: &mut Generator,
    request: &Request,
    n_events: usize,
) -> (Seen, [Guesses; 2]) {
    let mut events = Vec::new();
    let answer = generator
        .generate(request, &mut |event| {
            events.push(match event {
                Event::Prefill { n_done, n_total } => {
                    (None, vec![n_done as u32, n_total as u32], String::new())
                }
                Event::Token { token, logits } => {
                    let bits = logits.iter().map(|x| x.to_bits()).collect();
                    (Some(token), bits, String::new())
                }
                Event::Text(text) => (None, Vec::new(), text.to_owned()),
                _ => unreachable!("no other event"),
            });
            if events.len() < n_events {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .unwrap();
    let statistics = answer.statistics;
    assert!(statistics.n_steps < statistics.n_drawn.max(1));
    let seen = Seen {
        events,
        tokens: answer.tokens,
        text: answer.text,
        finish: answer.finish,
        n_drawn: statistics.n_drawn,
        n_reused: statistics.n_reused,
    };
    (seen, [statistics.lookup, statistics.draft])
}

/// Compares every way to guess with none; adds up what was guessed.
fn compare(generators: &mut [Generator], request: &Request, total: &mut [Guesses; 2]) -> Seen {
    let mut expected: Option<Seen> = None;
    for speculate in [Speculate::Off, Speculate::Auto, Speculate::Always] {
        for (index, generator) in generators.iter_mut().enumerate() {
            let request = Request {
                speculate,
                ..request.clone()
            };
            generator.reset();
            let (seen, guesses) = run_until(generator, &request, usize::MAX);
            // What an answer leaves behind is the same, too: so much of it is known to the next request.
            let next = Request {
                prompt: [&request.prompt[..], &seen.tokens[..], &[5]].concat(),
                max_tokens: Some(0),
                ..request.clone()
            };
            let n_kept = match next.check(N_VOCAB as usize, generator.model().n_ctx()) {
                Ok(()) => run_until(generator, &next, usize::MAX).0.n_reused,
                Err(_) => 0,
            };
            let seen = Seen {
                n_reused: n_kept,
                ..seen
            };
            if speculate == Speculate::Off {
                assert_eq!(guesses, [Guesses::default(); 2]);
            }
            for (total, guesses) in total.iter_mut().zip(guesses) {
                assert!(guesses.n_right <= guesses.n_made);
                total.n_made += guesses.n_made;
                total.n_right += guesses.n_right;
            }
            let expected = expected.get_or_insert_with(|| Seen {
                events: seen.events.clone(),
                tokens: seen.tokens.clone(),
                text: seen.text.clone(),
                ..seen
            });
            assert!(
                *expected == seen,
                "{speculate:?}, generator {index}, {:?}\nexpected {:?} {:?}\nseen     {:?} {:?}",
                request.sampling,
                expected.tokens,
                (expected.finish, expected.n_drawn, expected.n_reused),
                seen.tokens,
                (seen.finish, seen.n_drawn, seen.n_reused)
            );
        }
    }
    expected.expect("a run")
}

/// A generator without a draft, one with itself as draft, one with a stranger.
fn generators(model: &TinyModel, options: GeneratorOptions) -> Vec<Generator> {
    let stranger = TinyModel {
        seed: model.seed + 1,
        n_ctx_train: 100,
        ..TinyModel::new("llama", TensorType::F32)
    };
    let (model, stranger) = (gguf(model), gguf(&stranger));
    vec![
        generator(&model, None, options),
        generator(&model, Some(&model), options),
        generator(&model, Some(&stranger), options),
    ]
}

/// A text that repeats itself with small changes.
fn prompt(n: u32) -> Vec<u32> {
    (0..n).map(|i| 3 + (i % 11 + i / 40) * 23 % 250).collect()
}

/// Settings under which few tokens take turns: many guesses, many of them wrong.
fn settings(case: u64) -> SamplingParams {
    let few = (0..6).map(|i| (3 + (i * 41 + case as u32) % 250, 30.0));
    let index = case as usize;
    SamplingParams {
        temperature: [0.0, 0.3, 1.0, 3.0][index % 4],
        top_k: [5, 0, 0][index % 3],
        top_p: [0.9, 1.0, 1.0, 1.0, 1.0][index % 5],
        min_p: [0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0][index % 7],
        repeat_penalty: [1.0, 1.3][index % 2],
        repeat_window: 16,
        frequency_penalty: [0.0, 0.0, 0.4, 0.0][index % 4],
        presence_penalty: [0.0, 0.0, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0][index % 8],
        logit_bias: if case % 3 == 1 {
            Vec::new()
        } else {
            few.collect()
        },
        seed: Some(case),
        ..SamplingParams::default()
    }
}

fn request(case: u64, n_prompt: u32, n: usize) -> Request {
    Request {
        max_tokens: Some(n),
        sampling: settings(case),
        choice: case as u32 % 3,
        ..Request::new(prompt(n_prompt))
    }
}

#[test]
fn guesses_change_nothing() {
    let mut total = [Guesses::default(); 2];
    for (kv_type, family, weight, sliding_window) in [
        (KvType::F16, "llama", TensorType::Q4_0, None),
        (KvType::F32, "qwen3", TensorType::F32, None),
        (KvType::F16, "qwen2", TensorType::Q4_K, None),
        (KvType::F16, "llama", TensorType::F32, Some(16)),
        (KvType::Q8_0, "qwen3", TensorType::Q8_0, None),
        (KvType::F16, "qwen3moe", TensorType::Q4_K, None),
    ] {
        let model = TinyModel {
            sliding_window,
            ..TinyModel::new(family, weight)
        };
        let options = GeneratorOptions {
            kv_type,
            ..GeneratorOptions::default()
        };
        let mut generators = generators(&model, options);
        for case in 0..12 {
            compare(&mut generators, &request(case, 61, 90), &mut total);
        }
    }
    println!("{total:?}");
    for guesses in total {
        assert!(guesses.n_right > 1000 && guesses.n_made > guesses.n_right + 1000);
    }
}

#[test]
fn no_guess_goes_beyond_the_end() {
    let mut total = [Guesses::default(); 2];
    let model = TinyModel::new("llama", TensorType::F32);
    for n_ctx in [50, 64, 65] {
        let options = GeneratorOptions {
            n_ctx: Some(n_ctx),
            ..GeneratorOptions::default()
        };
        let mut generators = generators(&model, options);
        for case in 0..4 {
            for n in 0..20 {
                compare(&mut generators, &request(case, 40, n), &mut total);
            }
            let mut open = request(case, n_ctx as u32 - 7, 0);
            open.max_tokens = None;
            let seen = compare(&mut generators, &open, &mut total);
            assert!(seen.tokens.len() <= 7);
        }
        assert_eq!(generators[0].pool().n_pages(), n_ctx.div_ceil(64));
    }
    assert!(total[0].n_made > 0 && total[1].n_made > 0, "{total:?}");
}

#[test]
fn an_end_inside_a_guess_is_the_end() {
    let mut total = [Guesses::default(); 2];
    let model = TinyModel::new("llama", TensorType::Q4_0);
    let mut generators = generators(&model, GeneratorOptions::default());
    let mut n_ended = 0;
    for case in 0..8 {
        let plain = compare(&mut generators, &request(case, 61, 60), &mut total);
        // Stop strings that lie anywhere in the text, across tokens.
        let places: Vec<usize> = plain.text.char_indices().map(|(at, _)| at).collect();
        for start in (0..places.len().saturating_sub(4)).step_by(17) {
            let stop = plain.text[places[start]..places[start + 3]].to_owned();
            let request = Request {
                stop: vec![stop],
                ..request(case, 61, 60)
            };
            let seen = compare(&mut generators, &request, &mut total);
            assert!(matches!(seen.finish, FinishReason::StopString { .. }));
        }
        // The token that ends a text, made likely enough to come after a while.
        let mut ending = request(case, 61, 60);
        ending.sampling.logit_bias.push((2, 27.0));
        ending.sampling.temperature = 2.0;
        // In the prompt it makes guesses that contain it.
        ending.prompt.splice(30..31, [2]);
        let seen = compare(&mut generators, &ending, &mut total);
        n_ended += usize::from(seen.finish == FinishReason::EndOfGeneration { token: 2 });
    }
    assert!(n_ended > 1, "{n_ended}");
}

#[test]
fn a_callback_can_end_it_at_every_event() {
    let model = gguf(&TinyModel::new("llama", TensorType::Q4_0));
    let mut generator = generator(&model, Some(&model), GeneratorOptions::default());
    for case in [0, 2, 6] {
        for n_events in 1..60 {
            let mut expected = None;
            for speculate in [Speculate::Off, Speculate::Always] {
                let request = Request {
                    speculate,
                    ..request(case, 61, 40)
                };
                generator.reset();
                let (seen, _) = run_until(&mut generator, &request, n_events);
                assert!(
                    expected.get_or_insert(seen) == &run_again(&mut generator, &request, n_events)
                );
            }
        }
    }
}

fn run_again(generator: &mut Generator, request: &Request, n_events: usize) -> Seen {
    generator.reset();
    run_until(generator, request, n_events).0
}

/// A wrong guess may lead where the model has no finite logits. Without guessing nobody would have known.
#[test]
fn a_guess_that_breaks_the_model_is_withdrawn() {
    const BROKEN: usize = 77;
    let model = TinyModel::new("llama", TensorType::F32);
    let with_row = |tensor: &str, value: f32| {
        let mut bytes = model.build();
        let gguf = Gguf::from_vec(bytes.clone()).unwrap();
        let row_bytes = model.n_embd as usize * 4;
        let row = &gguf.data(gguf.tensor(tensor).unwrap())[BROKEN * row_bytes..][..row_bytes];
        let at = bytes.windows(row_bytes).position(|w| w == row).unwrap();
        let values: Vec<f32> = row
            .chunks_exact(4)
            .map(|x| f32::from_le_bytes(x.try_into().unwrap()) * value)
            .collect();
        for (index, value) in values.iter().enumerate() {
            bytes[at + index * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        Arc::new(Gguf::from_vec(bytes).unwrap())
    };
    let target = with_row("token_embd.weight", f32::INFINITY);
    let draft = with_row("output.weight", 1000.0);
    let mut generators = [
        generator(&target, None, GeneratorOptions::default()),
        generator(&target, Some(&draft), GeneratorOptions::default()),
    ];
    for case in 0..6 {
        let mut request = request(case * 4, 61, 50);
        request.prompt = (0..61).map(|i| 3 + i * i % 60).collect();
        request.sampling.logit_bias = vec![(BROKEN as u32, f32::NEG_INFINITY)];
        let mut total = [Guesses::default(); 2];
        compare(&mut generators, &request, &mut total);
    }
    // The guess does break it.
    let error = generators[0]
        .generate(&Request::new(vec![5, BROKEN as u32]), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert!(error.to_string().contains("position"), "{error}");
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let model = gguf(&TinyModel::new("llama", TensorType::F32));
    let mut generator = generator(&model, None, GeneratorOptions::default());
    let mut other = TinyModel::new("llama", TensorType::F32);
    let tokens = model.metadata().get_strings("tokenizer.ggml.tokens");
    let tokens: StringArray = (tokens.unwrap().expect("tokens").iter())
        .enumerate()
        .map(|(id, piece)| if id == 270 { b"other" } else { piece })
        .collect();
    let key = "tokenizer.ggml.tokens".to_owned();
    other.keys.push((key, Some(tokens.into())));
    let error = generator.add_draft(gguf(&other)).unwrap_err().to_string();
    assert!(
        error.contains("token 270") && error.contains("other"),
        "{error}"
    );
}

#[test]
fn a_replayed_answer_is_the_one_given() {
    let model = gguf(&TinyModel::new("llama", TensorType::Q4_0));
    let mut generator = generator(&model, None, GeneratorOptions::default());
    let answer = prompt(60);
    let request = Request::new(prompt(50));
    let seen = generator
        .replay(&request, &answer, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(seen.tokens, answer);
    assert_eq!(seen.finish, FinishReason::Length);
    let error = generator
        .replay(&request, &[N_VOCAB], &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(error.to_string().contains("the answer"), "{error}");
}

/// Models that were trained: the one of the fixtures, and the one that is part of the program.
#[test]
fn stories_are_the_same_with_guesses() {
    let spark = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/spark/spark.gguf");
    let stories =
        fixtures("stories with guesses").map(|folder| folder.join("real/stories260K.gguf"));
    for path in [Some(spark), stories].into_iter().flatten() {
        let model = Arc::new(Gguf::open(&path).unwrap());
        let mut total = [Guesses::default(); 2];
        for kv_type in [KvType::F16, KvType::F32, KvType::Q8_0] {
            let options = GeneratorOptions {
                kv_type,
                ..GeneratorOptions::default()
            };
            let mut generators = [
                generator(&model, None, options),
                generator(&model, Some(&model), options),
            ];
            let text = "Once there was a fox. Once there was a dog. Once there was a fox. Once";
            for case in 0..8 {
                let sampling = SamplingParams {
                    logit_bias: Vec::new(),
                    ..settings(case)
                };
                let request = Request {
                    max_tokens: Some(80),
                    sampling,
                    ..Request::new(generators[0].encode(text))
                };
                compare(&mut generators, &request, &mut total);
            }
        }
        println!("{}: {total:?}", path.display());
        assert!(
            total.iter().all(|guesses| guesses.n_right > 40),
            "{total:?}"
        );
    }
}
