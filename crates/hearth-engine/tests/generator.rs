//! The generator on tiny models: what it draws does not depend on how it got there.

use std::{num::NonZeroUsize, ops::ControlFlow, sync::Arc};

use hearth_engine::{
    Answer, EngineError, Event, FinishReason, Generator, GeneratorOptions, Request, RequestError,
    SamplingParams,
};
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{Kernels, Level};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

fn kernels(n_threads: usize) -> Kernels {
    Kernels::new(Level::best(), NonZeroUsize::new(n_threads).unwrap()).unwrap()
}

fn generator_of(model: &TinyModel, options: GeneratorOptions) -> Generator {
    let gguf = Arc::new(Gguf::from_vec(model.build()).unwrap());
    Generator::load(gguf, kernels(2), options).unwrap()
}

fn generator(options: GeneratorOptions) -> Generator {
    generator_of(&TinyModel::new("llama", TensorType::Q4_0), options)
}

fn with_context(n_ctx: usize) -> GeneratorOptions {
    GeneratorOptions {
        n_ctx: Some(n_ctx),
        ..GeneratorOptions::default()
    }
}

fn sampled(prompt: &[u32], n: usize) -> Request {
    let sampling = SamplingParams {
        temperature: 1.0,
        top_k: 40,
        seed: Some(11),
        ..SamplingParams::default()
    };
    Request {
        max_tokens: Some(n),
        sampling,
        ..Request::new(prompt.to_vec())
    }
}

/// Runs a request; also the text that came through events.
fn run(generator: &mut Generator, request: &Request) -> (Answer, String) {
    let mut text = String::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Text(piece) = event {
            text.push_str(piece);
        }
        ControlFlow::Continue(())
    };
    let answer = generator.generate(request, &mut on_event).unwrap();
    (answer, text)
}

/// What must be equal: everything but the times.
fn essence(answer: Answer) -> (Vec<u32>, String, FinishReason) {
    (answer.tokens, answer.text, answer.finish)
}

fn prompt(n: u32) -> Vec<u32> {
    (0..n).map(|i| 3 + i * 37 % (N_VOCAB - 3)).collect()
}

#[test]
fn chunks_reuse_and_seeds() {
    let request = sampled(&prompt(50), 30);
    let (first, text) = run(&mut generator(GeneratorOptions::default()), &request);
    assert_eq!(text, first.text, "events carry the whole text");
    assert_eq!(first.statistics.seed, 11);
    let expected = essence(first);
    for chunk in [1, 7, 49, 50, 51] {
        let options = GeneratorOptions {
            chunk,
            ..GeneratorOptions::default()
        };
        assert_eq!(
            essence(run(&mut generator(options), &request).0),
            expected,
            "chunks of {chunk}"
        );
    }

    // The same again, then a longer prompt, then one that leaves the old one half way.
    let mut warm = generator(GeneratorOptions::default());
    run(&mut warm, &request);
    let (again, _) = run(&mut warm, &request);
    assert_eq!(again.statistics.n_reused, 49);
    assert_eq!(essence(again), expected);
    for other in [prompt(80), [&prompt(20)[..], &[9, 9, 9]].concat()] {
        let request = sampled(&other, 20);
        let (reused, _) = run(&mut warm, &request);
        assert!(reused.statistics.n_reused >= 20, "{:?}", reused.statistics);
        warm.reset();
        let (fresh, _) = run(&mut warm, &request);
        assert_eq!(fresh.statistics.n_reused, 0);
        assert_eq!(essence(reused), essence(fresh));
    }

    let mut other_seed = request.clone();
    other_seed.sampling.seed = Some(12);
    assert_ne!(essence(run(&mut warm, &other_seed).0), expected);
    let other_choice = Request {
        choice: 1,
        ..request.clone()
    };
    assert_ne!(essence(run(&mut warm, &other_choice).0), expected);

    // Without a seed one is drawn, and the statistics tell it.
    let mut unseeded = request.clone();
    unseeded.sampling.seed = None;
    let (answer, _) = run(&mut warm, &unseeded);
    let mut repeated = request;
    repeated.sampling.seed = Some(answer.statistics.seed);
    assert_eq!(essence(run(&mut warm, &repeated).0), essence(answer));
}

#[test]
fn a_window_does_not_spoil_reuse() {
    let model = TinyModel {
        sliding_window: Some(16),
        ..TinyModel::new("llama", TensorType::F32)
    };
    let mut warm = generator_of(
        &model,
        GeneratorOptions {
            chunk: 30,
            ..GeneratorOptions::default()
        },
    );
    // The first answer goes so far that pages behind its window are given back.
    run(&mut warm, &sampled(&prompt(200), 100));
    for n in [10, 60, 150, 290] {
        let request = sampled(&prompt(n), 10);
        let (reused, _) = run(&mut warm, &request);
        let (fresh, _) = run(
            &mut generator_of(&model, GeneratorOptions::default()),
            &request,
        );
        assert_eq!(essence(reused), essence(fresh), "{n} tokens");
    }
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let mut generator = generator(GeneratorOptions::default());
    let (whole, _) = run(&mut generator, &sampled(&prompt(10), 60));
    let characters: Vec<(usize, char)> = whole.text.char_indices().collect();
    assert!(
        characters.len() > 20,
        "the text is long enough to cut: {:?}",
        whole.text
    );
    for start in [0, 5, 13] {
        // Four characters, over token borders as they may fall.
        let stop = &whole.text[characters[start].0..characters[start + 4].0];
        let expected = &whole.text[..whole.text.find(stop).unwrap()];
        let request = Request {
            stop: vec!["never there".to_owned(), stop.to_owned()],
            ..sampled(&prompt(10), 60)
        };
        let (answer, text) = run(&mut generator, &request);
        assert_eq!(answer.text, expected);
        assert_eq!(text, expected);
        assert_eq!(answer.finish, FinishReason::StopString { index: 1 });
        assert!(answer.tokens.len() < whole.tokens.len());
    }
}

#[test]
fn the_context_is_a_limit_not_a_cut() {
    let mut generator = generator(with_context(40));
    let error = generator
        .generate(
            &Request::new(prompt(40)),
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Request(RequestError::PromptTooLong {
                n_prompt: 40,
                n_ctx: 40
            })
        ),
        "{error}"
    );
    let mut request = sampled(&prompt(30), 0);
    request.max_tokens = None;
    request.sampling.logit_bias = vec![(2, f32::NEG_INFINITY)];
    let (answer, _) = run(&mut generator, &request);
    assert_eq!(
        (answer.tokens.len(), answer.finish),
        (10, FinishReason::Length)
    );
    let (nothing, _) = run(
        &mut generator,
        &Request {
            max_tokens: Some(0),
            ..Request::new(prompt(40))
        },
    );
    assert_eq!(
        (nothing.tokens.len(), nothing.finish),
        (0, FinishReason::Length)
    );
}

#[test]
fn a_token_that_ends_the_text_is_not_part_of_it() {
    let mut generator = generator(GeneratorOptions::default());
    let mut request = Request::new(prompt(5));
    request.sampling.logit_bias = vec![(2, 1e6)];
    let (answer, text) = run(&mut generator, &request);
    assert_eq!(answer.finish, FinishReason::EndOfGeneration { token: 2 });
    assert_eq!(
        (answer.tokens, text.as_str(), answer.statistics.n_drawn),
        (vec![], "", 1)
    );
}

#[test]
fn a_callback_can_end_it_anywhere() {
    let mut generator = generator(GeneratorOptions {
        chunk: 10,
        ..GeneratorOptions::default()
    });
    let request = sampled(&prompt(55), 40);
    let (whole, _) = run(&mut generator, &request);
    // Seven events are the prompt's: one at the start, one after each chunk.
    for n_events in 0..20 {
        generator.reset();
        let mut left = n_events;
        let answer = generator
            .generate(&request, &mut |_| {
                left -= 1;
                if left < 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        assert_eq!(answer.finish, FinishReason::Cancelled);
        assert!(whole.tokens.starts_with(&answer.tokens) && whole.text.starts_with(&answer.text));
        assert!(n_events >= 7 || answer.tokens.is_empty());
    }
    assert_eq!(
        essence(run(&mut generator, &request).0),
        essence(whole),
        "and nothing is left behind"
    );
}

#[test]
fn progress_counts_up_to_the_prompt() {
    let mut generator = generator(GeneratorOptions {
        chunk: 20,
        ..GeneratorOptions::default()
    });
    let mut seen = Vec::new();
    let mut n_tokens = 0;
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Prefill { n_done, n_total } => seen.push((n_done, n_total)),
            Event::Token { logits, .. } => {
                n_tokens += 1;
                assert_eq!(logits.len(), N_VOCAB as usize);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let answer = generator
        .generate(&sampled(&prompt(50), 4), &mut on_event)
        .unwrap();
    assert_eq!(seen, [(0, 50), (20, 50), (40, 50), (50, 50)]);
    assert_eq!(n_tokens, answer.statistics.n_drawn);
}

#[test]
fn logits_of_a_prompt_do_not_depend_on_chunks() {
    let all = |chunk: usize, max_logits: usize| {
        let mut rows = Vec::new();
        let mut generator = generator(GeneratorOptions {
            chunk,
            max_logits,
            ..GeneratorOptions::default()
        });
        generator
            .logits(&prompt(33), true, &mut |pos, logits| {
                assert_eq!(pos, rows.len() / N_VOCAB as usize);
                rows.extend(logits.iter().map(|x| x.to_bits()));
                ControlFlow::Continue(())
            })
            .unwrap();
        let mut last = Vec::new();
        let mut show = |pos, logits: &[f32]| {
            assert_eq!(pos, 32);
            last.extend(logits.iter().map(|x| x.to_bits()));
            ControlFlow::Continue(())
        };
        generator.logits(&prompt(33), false, &mut show).unwrap();
        assert_eq!(last, rows[32 * N_VOCAB as usize..]);
        rows
    };
    let expected = all(33, 33);
    assert_eq!(expected.len(), 33 * N_VOCAB as usize);
    assert_eq!(all(1, 1), expected);
    assert_eq!(all(7, 7), expected);
    assert_eq!(all(512, 5), expected);
    let mut generator = generator(with_context(8));
    let mut nothing =
        |_: usize, _: &[f32]| -> ControlFlow<()> { panic!("no logits of a bad call") };
    assert!(
        generator
            .logits(&prompt(9), true, &mut nothing)
            .unwrap_err()
            .to_string()
            .contains("9 tokens")
    );
    assert!(generator.logits(&[], false, &mut nothing).is_err());
    assert!(generator.logits(&[N_VOCAB], false, &mut nothing).is_err());
    let mut shown = 0;
    let mut once = |_: usize, _: &[f32]| {
        shown += 1;
        ControlFlow::Break(())
    };
    generator.logits(&prompt(8), true, &mut once).unwrap();
    assert_eq!(shown, 1);
}

/// Memory can be made for less than the context; the answer then ends there, as it would at the context's end.
#[test]
fn memory_for_fewer_positions_than_the_context() {
    let limited = GeneratorOptions {
        n_positions: Some(40),
        ..GeneratorOptions::default()
    };
    let (answer, _) = run(&mut generator(limited), &sampled(&prompt(30), 100));
    let (whole, _) = run(
        &mut generator(GeneratorOptions::default()),
        &sampled(&prompt(30), 100),
    );
    assert!(answer.tokens.len() <= 10);
    assert_eq!(answer.tokens, whole.tokens[..answer.tokens.len()]);
    assert_eq!(generator(limited).pool().n_pages(), 1);
    let error = generator(limited)
        .generate(&sampled(&prompt(41), 1), &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(error.to_string().contains("41 tokens"), "{error}");
}
