//! Jobs that run together: each gets what it would have got alone, bit for bit.

mod common;

use common::{Alone, at_rest, engine_of, gguf, kernels, llama, pages, prompt, run, sampled, see};
use std::sync::{Arc, Mutex};

use hearth_engine::{
    Engine, EngineError, EngineOptions, Job, Owner, Priority, Request, SamplingParams, Speculate,
    ThinkingBudget,
};
use hearth_gguf::{Gguf, TensorType};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

/// The same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A job of any kind.
fn any_job(numbers: &mut Numbers, n_most: u64) -> Job {
    let n_prompt = 1 + numbers.below(n_most) as u32;
    // Some prompts begin alike, so that pages are shared.
    let mut tokens = prompt(n_prompt, numbers.below(3) as u32);
    if numbers.below(2) == 0 {
        let last = tokens.len() - 1;
        tokens[last] = 3 + numbers.below(u64::from(N_VOCAB) - 3) as u32;
    }
    let mut request = sampled(&tokens, numbers.below(80) as usize, numbers.below(1000));
    let sampling = &mut request.sampling;
    match numbers.below(5) {
        0 => sampling.temperature = 0.0,
        1 => (sampling.top_k, sampling.top_p) = (0, 0.9),
        2 => sampling.repeat_penalty = 1.2,
        3 => (sampling.frequency_penalty, sampling.presence_penalty) = (0.4, 0.2),
        _ => sampling.logit_bias = vec![(30, 4.0), (2, f32::NEG_INFINITY)],
    }
    request.choice = numbers.below(3) as u32;
    request.begins_text = numbers.below(2) == 0;
    if numbers.below(3) == 0 {
        request.stop = vec!["e".to_owned(), " th".to_owned()];
    }
    request.speculate =
        [Speculate::Off, Speculate::Auto, Speculate::Always][numbers.below(3) as usize];
    Job {
        n_logprobs: [None, Some(0), Some(3)][numbers.below(3) as usize],
        n_prompt_logprobs: (numbers.below(6) == 0).then_some(2),
        owner: Owner {
            name: Arc::from(["", "ann", "ben"][numbers.below(3) as usize]),
            weight: 1 + numbers.below(3) as u32,
        },
        priority: [Priority::Interactive, Priority::Background][numbers.below(2) as usize],
        ..Job::new(request)
    }
}

#[test]
fn together_is_as_alone() {
    let windowed = TinyModel {
        sliding_window: Some(70),
        ..TinyModel::new("llama", TensorType::F32)
    };
    let models = [
        (llama(), "llama"),
        (windowed, "llama with a window"),
        (TinyModel::new("qwen3", TensorType::Q8_0), "qwen3"),
        (TinyModel::new("qwen3moe", TensorType::Q4_K), "experts"),
    ];
    for (index, (model, name)) in models.into_iter().enumerate() {
        // Eleven pages hold one context of 512 positions and little more.
        for n_pages in [11, 200] {
            let options = EngineOptions {
                max_sequences: 7,
                max_step_tokens: 50,
                kv_budget_bytes: Some(pages(&model, n_pages)),
                ..EngineOptions::default()
            };
            let engine = engine_of(&model, options);
            assert_eq!(engine.n_ctx(), 512);
            let mut numbers = Numbers(index as u64 + 7 * n_pages);
            let jobs: Vec<Job> = (0..30).map(|_| any_job(&mut numbers, 300)).collect();
            let all: Vec<_> = jobs
                .iter()
                .map(|job| engine.submit(job.clone()).unwrap())
                .collect();
            // Some clients go away.
            let mut all: Vec<_> = all.into_iter().map(Some).collect();
            all.iter_mut()
                .step_by(9)
                .for_each(|events| drop(events.take()));
            let mut alone = Alone::new(&model, None);
            for (job, events) in jobs.iter().zip(all) {
                let Some(events) = events else { continue };
                let seen = see(events);
                assert_eq!(
                    seen.outcome.unwrap(),
                    alone.run(job),
                    "{name}, {n_pages} pages: {job:?}"
                );
                assert_eq!(
                    seen.progress.last().map(|last| last.0),
                    Some(job.request.prompt.len())
                );
            }
            let snapshot = at_rest(&engine);
            assert_eq!(snapshot.n_pages_used, 0, "{name}: no page is lost");
        }
    }
}

#[test]
fn who_loses_its_pages_writes_the_same_answer() {
    let model = llama();
    let options = EngineOptions {
        kv_budget_bytes: Some(pages(&model, 11)),
        ..EngineOptions::default()
    };
    let engine = engine_of(&model, options);
    // Both fit at first; each grows to eight pages, together more than there are.
    let jobs = [1, 2].map(|seed| {
        let endless = engine.tokenizer().end_of_generation().iter();
        let sampling = SamplingParams {
            temperature: 1.0,
            seed: Some(seed),
            logit_bias: endless.map(|&token| (token, f32::NEG_INFINITY)).collect(),
            ..SamplingParams::default()
        };
        Job::new(Request {
            sampling,
            max_tokens: Some(470),
            ..Request::new((10..40).collect())
        })
    });
    let events = jobs.clone().map(|job| engine.submit(job).unwrap());
    let mut alone = Alone::new(&model, None);
    for (job, events) in jobs.iter().zip(events) {
        assert_eq!(see(events).outcome.unwrap(), alone.run(job));
    }
    assert!(at_rest(&engine).n_preempted > 0);
}

#[test]
fn a_seed_that_was_drawn_repeats_the_answer() {
    let engine = common::engine(EngineOptions::default());
    let mut request = sampled(&prompt(20, 1), 30, 0);
    request.sampling.seed = None;
    let first = run(&engine, Job::new(request.clone()));
    request.sampling.seed = Some(first.statistics.seed);
    let second = run(&engine, Job::new(request));
    assert_eq!(first.outcome.unwrap(), second.outcome.unwrap());
}

#[test]
fn choices_read_their_prompt_once() {
    let engine = common::engine(EngineOptions::default());
    let tokens = prompt(200, 4);
    let jobs: Vec<Job> = (0..6)
        .map(|choice| {
            Job::new(Request {
                choice,
                ..sampled(&tokens, 40, 5)
            })
        })
        .collect();
    let all: Vec<_> = jobs
        .iter()
        .map(|job| engine.submit(job.clone()).unwrap())
        .collect();
    let mut alone = Alone::new(&llama(), None);
    let mut texts = Vec::new();
    for (index, (job, events)) in jobs.iter().zip(all).enumerate() {
        let seen = see(events);
        let n_cached = if index == 0 { 0 } else { 192 };
        assert_eq!(seen.statistics.n_reused, n_cached, "choice {index}");
        assert_eq!(seen.progress[0], (n_cached, 200, n_cached));
        let outcome = seen.outcome.unwrap();
        assert_eq!(outcome, alone.run(job));
        texts.push(outcome.tokens);
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 6, "each choice draws for itself");
    let snapshot = at_rest(&engine);
    assert_eq!(snapshot.n_read, 200 + 5 * 8);
}

#[test]
fn owners_do_not_find_each_others_prompts() {
    let engine = common::engine(EngineOptions::default());
    let job = |name: &str| Job {
        owner: Owner {
            name: Arc::from(name),
            weight: 1,
        },
        ..Job::new(sampled(&prompt(200, 4), 3, 5))
    };
    assert_eq!(run(&engine, job("ann")).statistics.n_reused, 0);
    assert_eq!(run(&engine, job("ben")).statistics.n_reused, 0);
    assert_eq!(run(&engine, job("ann")).statistics.n_reused, 192);
}

#[test]
fn a_thought_is_closed_when_it_was_long_enough() {
    let engine = common::engine(EngineOptions::default());
    let close = vec![40, 41, 42];
    let job = Job {
        thinking_budget: Some(ThinkingBudget {
            n_tokens: 5,
            open_text: None,
            close_text: "never written".to_owned(),
            close: close.clone(),
        }),
        n_logprobs: Some(1),
        ..Job::new(sampled(&prompt(20, 1), 30, 3))
    };
    let free = Alone::new(&llama(), None).run(&Job::new(job.request.clone()));
    let outcome = run(&engine, job).outcome.unwrap();
    assert_eq!(outcome.tokens[..5], free.tokens[..5]);
    assert_eq!(outcome.tokens[5..8], close);
    assert_eq!(outcome.tokens.len(), 30, "and the answer goes on");
    assert_eq!(outcome.logprobs.len(), 30);
}

#[test]
fn control_tokens_have_text_when_it_is_asked_for() {
    let engine = common::engine(EngineOptions::default());
    // Token 1 is the control token <s>; it is made the only one that can be drawn.
    let request = |visible_tokens: Vec<u32>| Request {
        max_tokens: Some(3),
        sampling: SamplingParams {
            logit_bias: vec![(1, 1000.0)],
            ..SamplingParams::default()
        },
        visible_tokens,
        ..Request::new(prompt(5, 1))
    };
    let text = |visible| {
        run(&engine, Job::new(request(visible)))
            .outcome
            .unwrap()
            .text
    };
    assert_eq!(text(vec![]), "");
    assert_eq!(text(vec![2, 1]), "<s><s><s>");
}

#[test]
fn an_answer_of_no_tokens_is_a_prompt_read() {
    let engine = common::engine(EngineOptions::default());
    let job = Job {
        n_prompt_logprobs: Some(0),
        ..Job::new(sampled(&prompt(100, 1), 0, 3))
    };
    let seen = run(&engine, job.clone());
    let outcome = seen.outcome.unwrap();
    assert_eq!(outcome, Alone::new(&llama(), None).run(&job));
    assert_eq!(
        (outcome.tokens.len(), outcome.prompt_logprobs.len()),
        (0, 100)
    );
}

#[test]
fn a_context_beyond_the_budget_is_made_smaller() {
    let model = llama();
    let start = |n_pages: u64| {
        let options = EngineOptions {
            kv_budget_bytes: Some(pages(&model, n_pages) + 1),
            ..EngineOptions::default()
        };
        Engine::start(gguf(&model), Arc::new(Mutex::new(kernels())), options)
    };
    assert_eq!(start(3).unwrap().n_ctx(), 192);
    let error = start(0).unwrap_err();
    assert!(matches!(error, EngineError::Budget { .. }), "{error}");
}

#[test]
fn vectors_do_not_depend_on_how_texts_are_read() {
    let texts: Vec<Vec<u32>> = [1, 70, 3, 200, 64, 5, 5, 130]
        .iter()
        .enumerate()
        .map(|(seed, n)| prompt(*n, seed as u32))
        .collect();
    let vectors = |max_step_tokens: usize, n_pages: u64| -> Vec<Vec<u32>> {
        let model = llama();
        let options = EngineOptions {
            max_step_tokens,
            kv_budget_bytes: Some(pages(&model, n_pages)),
            ..EngineOptions::default()
        };
        let engine = engine_of(&model, options);
        // Something else writes meanwhile.
        let other = engine
            .submit(Job::new(sampled(&prompt(9, 1), 60, 3)))
            .unwrap();
        let mut events = engine.embed(Owner::default(), texts.clone()).unwrap();
        let mut all = Vec::new();
        while let Some(vector) = events.blocking_next() {
            all.push(vector.unwrap().into_iter().map(f32::to_bits).collect());
        }
        assert!(see(other).outcome.is_ok());
        assert_eq!(at_rest(&engine).n_pages_used, 0);
        all
    };
    let expected = vectors(512, 100);
    assert_eq!(expected.len(), texts.len());
    assert!(
        expected
            .iter()
            .all(|vector| vector.len() == llama().n_embd as usize)
    );
    assert_ne!(expected[5], expected[6]);
    assert_eq!(vectors(7, 8), expected);
    assert_eq!(vectors(64, 9), expected);
}

/// A model with a token whose embedding is not a number.
fn poisoned(token: usize) -> (TinyModel, Vec<u8>) {
    let model = TinyModel::new("llama", TensorType::F32);
    let mut file = model.build();
    let table = Gguf::from_vec(file.clone()).unwrap();
    let table = table
        .tensors()
        .iter()
        .find(|tensor| tensor.name == "token_embd.weight");
    let row_bytes = 4 * model.n_embd as usize;
    let start = table.unwrap().offset() as usize + token * row_bytes;
    for value in file[start..start + row_bytes].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    (model, file)
}

#[test]
fn scores_that_are_no_numbers_end_one_job_only() {
    let (model, file) = poisoned(77);
    let gguf = Arc::new(Gguf::from_vec(file).unwrap());
    let kernels = Arc::new(Mutex::new(kernels()));
    let engine = Engine::start(gguf, kernels, EngineOptions::default()).unwrap();
    let good: Vec<Job> = (0..3)
        .map(|seed| {
            let harmless = prompt(40, seed).into_iter().filter(|token| *token != 77);
            let mut request = sampled(&harmless.collect::<Vec<_>>(), 30, 1);
            request.sampling.logit_bias = vec![(77, f32::NEG_INFINITY)];
            Job::new(request)
        })
        .collect();
    let mut bad = good[0].clone();
    bad.request.prompt.truncate(20);
    bad.request.prompt.extend([77, 5]);
    let mut all: Vec<_> = good
        .iter()
        .map(|job| engine.submit(job.clone()).unwrap())
        .collect();
    all.insert(1, engine.submit(bad).unwrap());
    let error = see(all.remove(1)).outcome.unwrap_err().to_string();
    assert!(error.contains("the logits at position 21"), "{error}");
    let mut alone = Alone::new(&model, None);
    for (job, events) in good.iter().zip(all) {
        assert_eq!(see(events).outcome.unwrap(), alone.run(job));
    }
    let mut vectors = engine.embed(Owner::default(), vec![vec![5, 77]]).unwrap();
    let error = vectors.blocking_next().unwrap().unwrap_err().to_string();
    assert!(error.contains("the hidden state at position 1"), "{error}");
    assert_eq!(at_rest(&engine).n_pages_used, 0);
}
