use super::*;

fn params(change: impl FnOnce(&mut SamplingParams)) -> SamplingParams {
    let mut params = SamplingParams {
        temperature: 1.0,
        seed: Some(1),
        ..SamplingParams::default()
    };
    change(&mut params);
    params
}

fn kept(logits: &[f32], change: impl FnOnce(&mut SamplingParams)) -> Vec<u32> {
    let mut candidates = Candidates::default();
    candidates.fill(logits, &params(change));
    candidates.tokens()
}

/// Logits of the probabilities 0.5, 0.25, 0.125, 0.125 for tokens 2, 0, 1, 3.
fn halves() -> [f32; 4] {
    [0.25f32.ln(), 0.125f32.ln(), 0.5f32.ln(), 0.125f32.ln()]
}

#[test]
fn candidates_go_by_logit_then_id() {
    assert_eq!(
        kept(&[1.0, 3.0, -0.0, 0.0, 3.0, f32::NEG_INFINITY, -1.0], |_| ()),
        [1, 4, 0, 2, 3, 6]
    );
}

#[test]
fn filters_keep_what_they_say() {
    assert_eq!(kept(&halves(), |p| p.top_k = 2), [2, 0]);
    assert_eq!(kept(&halves(), |p| p.top_k = 9), [2, 0, 1, 3]);
    assert_eq!(kept(&halves(), |p| p.top_p = 0.4), [2]);
    assert_eq!(kept(&halves(), |p| p.top_p = 0.6), [2, 0]);
    assert_eq!(kept(&halves(), |p| p.top_p = 0.8), [2, 0, 1]);
    assert_eq!(kept(&halves(), |p| p.top_p = 1e-30), [2]);
    assert_eq!(kept(&halves(), |p| p.min_p = 0.4), [2, 0]);
    assert_eq!(kept(&halves(), |p| p.min_p = 1.0), [2]);
    // The entropy is 1.75 bits, so token 0 with 2 bits is the most typical, then 2 with 1.
    assert_eq!(kept(&halves(), |p| p.typical = 0.2), [0]);
    assert_eq!(kept(&halves(), |p| p.typical = 0.7), [2, 0]);
}

#[test]
fn greedy_takes_the_lowest_id_of_equals() {
    let mut sampler = Sampler::new(SamplingParams::default(), 4, 0, 0).unwrap();
    assert_eq!(sampler.draw(&[1.0, 2.0, 2.0, 0.0], &[]), Ok(1));
    assert_eq!(sampler.draw(&[0.0, -0.0, -1.0, 0.0], &[]), Ok(0));
}

#[test]
fn frequencies_follow_the_probabilities() {
    let mut sampler = Sampler::new(params(|_| ()), 4, 0, 0).unwrap();
    let mut counts = [0i32; 4];
    let history = vec![0; 8000];
    for pos in 0..history.len() {
        counts[sampler.draw(&halves(), &history[..pos]).unwrap() as usize] += 1;
    }
    // Five standard deviations of a binomial count are at most 224.
    for (count, expected) in counts.into_iter().zip([2000, 1000, 4000, 1000]) {
        assert!((count - expected).abs() < 224, "{counts:?}");
    }
}

#[test]
fn a_draw_depends_on_its_place_alone() {
    let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin()).collect();
    let draw = |sampler: &mut Sampler, n: usize| sampler.draw(&logits, &vec![5; n]).unwrap();
    let mut in_order = Sampler::new(params(|_| ()), 100, 0, 0).unwrap();
    let forward: Vec<u32> = (0..50).map(|n| draw(&mut in_order, n)).collect();
    let mut backward: Vec<u32> = (0..50)
        .rev()
        .map(|n| draw(&mut Sampler::new(params(|_| ()), 100, 0, 0).unwrap(), n))
        .collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let mut other = Sampler::new(params(|_| ()), 100, 0, 1).unwrap();
    assert_ne!(
        forward,
        (0..50).map(|n| draw(&mut other, n)).collect::<Vec<_>>()
    );
}

#[test]
fn penalties_have_their_windows() {
    let logits = [2.0, -2.0, 1.0, 1.0];
    let penalised = |p: &SamplingParams, history: &[u32], n_prompt| {
        let mut logits = logits;
        Penalties::default().apply(p, history, n_prompt, &mut logits);
        logits
    };
    let repeat = params(|p| (p.repeat_penalty, p.repeat_window) = (2.0, 2));
    assert_eq!(penalised(&repeat, &[3, 0, 1], 3), [1.0, -4.0, 1.0, 1.0]);
    assert_eq!(
        penalised(&repeat, &[0, 0], 0),
        [1.0, -2.0, 1.0, 1.0],
        "once, however often it occurs"
    );
    let all = params(|p| (p.repeat_penalty, p.repeat_window) = (2.0, 0));
    assert_eq!(penalised(&all, &[3, 0, 1], 3), [1.0, -4.0, 1.0, 0.5]);
    let counted = params(|p| (p.frequency_penalty, p.presence_penalty) = (0.5, 0.25));
    assert_eq!(
        penalised(&counted, &[2, 2, 0, 0, 3], 2),
        [0.75, -2.0, 1.0, 0.25],
        "the prompt does not count"
    );
}

#[test]
fn biases_add_and_forbid() {
    let mut sampler = Sampler::new(
        SamplingParams {
            logit_bias: vec![(0, f32::NEG_INFINITY), (2, 5.0)],
            ..SamplingParams::default()
        },
        3,
        0,
        0,
    )
    .unwrap();
    assert_eq!(sampler.draw(&[9.0, 1.0, 0.0], &[]), Ok(2));
    for temperature in [0.0, 1.0] {
        let none = params(|p| {
            p.temperature = temperature;
            p.logit_bias = (0..3).map(|token| (token, f32::NEG_INFINITY)).collect();
        });
        let mut sampler = Sampler::new(none, 3, 0, 0).unwrap();
        assert_eq!(
            sampler.draw(&[9.0, 1.0, 0.0], &[7; 4]),
            Err(RequestError::NothingToDraw { pos: 4 })
        );
    }
}

#[test]
fn a_seed_is_drawn_when_none_is_given() {
    let unseeded = || {
        Sampler::new(params(|p| p.seed = None), 4, 0, 0)
            .unwrap()
            .seed()
    };
    let seeds: std::collections::BTreeSet<u64> = (0..8).map(|_| unseeded()).collect();
    assert!(seeds.len() > 1, "{seeds:?}");
    assert_eq!(
        Sampler::new(params(|p| p.seed = Some(42)), 4, 0, 0)
            .unwrap()
            .seed(),
        42
    );
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    type Change = fn(&mut SamplingParams);
    let cases: &[(&str, Change)] = &[
        ("temperature", |p| p.temperature = -0.1),
        ("temperature", |p| p.temperature = f32::NAN),
        ("temperature", |p| p.temperature = f32::INFINITY),
        ("temperature", |p| p.temperature = 1e-9),
        ("top_p", |p| p.top_p = 0.0),
        ("top_p", |p| p.top_p = 1.5),
        ("top_p", |p| p.top_p = f32::NAN),
        ("min_p", |p| p.min_p = -0.5),
        ("min_p", |p| p.min_p = 2.0),
        ("typical", |p| p.typical = 0.0),
        ("repeat_penalty", |p| p.repeat_penalty = 0.0),
        ("frequency_penalty", |p| p.frequency_penalty = f32::NAN),
        ("presence_penalty", |p| p.presence_penalty = 1e9),
        ("logit bias", |p| p.logit_bias = vec![(0, f32::NAN)]),
        ("logit bias", |p| p.logit_bias = vec![(0, f32::INFINITY)]),
        ("logit bias", |p| p.logit_bias = vec![(4, 0.0)]),
        ("logit bias", |p| p.logit_bias = vec![(1, 0.0), (1, 2.0)]),
    ];
    for (name, change) in cases {
        let error = Sampler::new(params(change), 4, 0, 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    assert_eq!(
        Sampler::new(params(|p| p.top_p = 1.5), 4, 0, 0)
            .unwrap_err()
            .to_string(),
        "top_p is 1.5, must be above 0 and at most 1"
    );
}
