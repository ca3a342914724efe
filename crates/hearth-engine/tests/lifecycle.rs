//! How jobs come and go: the queue, those who give up, those who are late, those who ask the same, and the end.

mod common;

use std::time::{Duration, Instant};

use common::{at_rest, engine, prompt, run, sampled, see};
use hearth_engine::{
    Engine, EngineOptions, FinishReason, Job, JobError, JobEvent, JobEvents, Owner, Request,
    RequestError, SamplingParams, SubmitError,
};

/// A job that goes on until its context of 512 is full.
fn endless(seed: u64) -> Job {
    let mut request = sampled(&prompt(30, 2), 0, seed);
    request.max_tokens = None;
    request.sampling.logit_bias = vec![(2, f32::NEG_INFINITY)];
    Job::new(request)
}

/// A context in which such a job does not end in any test's time.
fn large() -> EngineOptions {
    EngineOptions {
        n_ctx: Some(100_000),
        ..EngineOptions::default()
    }
}

/// Waits until it writes.
fn until_token(events: &mut JobEvents) {
    while !matches!(
        events.blocking_next().expect("it goes on"),
        JobEvent::Token { .. }
    ) {}
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_goes_away_frees_the_place_within_a_step() {
    for n_prompt in [30, 60_000] {
        let engine = engine(EngineOptions {
            max_step_tokens: 64,
            ..large()
        });
        let mut job = endless(1);
        job.request.prompt = prompt(n_prompt, 2);
        let mut events = engine.submit(job).unwrap();
        // The one writes, the other still reads.
        if n_prompt == 30 {
            until_token(&mut events);
        } else {
            assert!(matches!(
                events.blocking_next(),
                Some(JobEvent::Prompt { .. })
            ));
        }
        drop(events);
        let before = engine.snapshot().n_steps;
        wait_until("it ends", || engine.snapshot().n_cancelled == 1);
        let snapshot = engine.snapshot();
        assert!(
            snapshot.n_steps <= before + 1,
            "{before} steps before, {snapshot:?}"
        );
        assert_eq!((snapshot.n_running, snapshot.n_pages_used), (0, 0));
        assert!(
            run(&engine, Job::new(sampled(&prompt(5, 1), 5, 1)))
                .outcome
                .is_ok()
        );
    }
}

#[test]
fn a_full_queue_refuses_and_takes_again() {
    let engine = engine(EngineOptions {
        max_sequences: 1,
        max_queue: 2,
        ..large()
    });
    let mut first = engine.submit(endless(1)).unwrap();
    until_token(&mut first);
    let second = engine.submit(endless(2)).unwrap();
    let third = engine.submit(endless(3)).unwrap();
    let error = engine.submit(endless(4)).unwrap_err();
    assert!(
        matches!(
            error,
            SubmitError::QueueFull {
                n_waiting: 2,
                limit: 2
            }
        ),
        "{error}"
    );
    assert_eq!(error.to_string(), "2 requests are waiting, the limit is 2");
    drop(second);
    wait_until("a place in the queue", || engine.submit(endless(4)).is_ok());
    drop((first, third));
}

#[test]
fn who_is_late_gets_nothing() {
    let engine = engine(EngineOptions {
        max_sequences: 1,
        ..large()
    });
    let deadline = |job: Job| Job {
        deadline: Some(Instant::now() + Duration::from_millis(50)),
        ..job
    };
    // One writes, the other one waits for its place.
    let running = engine.submit(deadline(endless(1))).unwrap();
    let waiting = engine.submit(deadline(endless(2))).unwrap();
    for events in [running, waiting] {
        assert!(matches!(see(events).outcome, Err(JobError::Deadline)));
    }
    let in_time = Job {
        deadline: Some(Instant::now() + Duration::from_secs(1000)),
        ..Job::new(sampled(&prompt(5, 1), 5, 1))
    };
    assert!(run(&engine, in_time).outcome.is_ok());
}

#[test]
fn who_asks_the_same_joins() {
    let engine = engine(EngineOptions {
        n_ctx: Some(3000),
        ..EngineOptions::default()
    });
    let job = endless(7);
    let mut first = engine.submit(job.clone()).unwrap();
    for _ in 0..5 {
        until_token(&mut first);
    }
    let second = engine.submit(job.clone()).unwrap();
    let third = engine.submit(job.clone()).unwrap();
    // The first one goes; the others stay.
    drop(first);
    drop(third);
    let joined = see(second);
    let n_written = at_rest(&engine).n_written;
    let again = run(&engine, job.clone());
    assert_eq!(joined.outcome.unwrap(), again.outcome.unwrap());
    assert_eq!(joined.progress.last(), Some(&(30, 30, 0)));
    let snapshot = at_rest(&engine);
    assert_eq!((snapshot.n_joined, n_written), (2, 3000 - 30));
    assert_eq!(
        snapshot.n_written,
        2 * n_written,
        "one that is over cannot be joined"
    );
}

#[test]
fn who_asks_nearly_the_same_does_not_join() {
    let engine = engine(EngineOptions::default());
    let base = endless(7);
    let mut others = vec![base.clone(); 6];
    others[0].request.choice = 1;
    others[1].owner = Owner {
        name: "ann".into(),
        weight: 1,
    };
    others[2].request.sampling.temperature = 0.5;
    others[3].request.sampling.seed = Some(8);
    others[4].n_logprobs = Some(0);
    others[5].request.stop = vec!["x".to_owned()];
    // Without a seed nothing is determined.
    let mut free = base.clone();
    free.request.sampling.seed = None;
    others.extend([free.clone(), free]);
    let first = engine.submit(base).unwrap();
    let all: Vec<JobEvents> = others
        .into_iter()
        .map(|job| engine.submit(job).unwrap())
        .collect();
    for events in all.into_iter().chain([first]) {
        assert!(see(events).outcome.is_ok());
    }
    assert_eq!(engine.snapshot().n_joined, 0);
}

#[test]
fn bad_jobs_are_refused_at_once() {
    let engine = engine(EngineOptions::default());
    let job = |change: fn(&mut Job)| {
        let mut job = Job::new(sampled(&prompt(5, 1), 5, 1));
        change(&mut job);
        job
    };
    let cases = [
        job(|job| job.request.prompt = vec![]),
        job(|job| job.request.prompt = prompt(512, 1)),
        job(|job| job.request.prompt = vec![1_000_000]),
        job(|job| job.request.visible_tokens = vec![1_000_000]),
        job(|job| job.request.sampling.top_p = f32::NAN),
        job(|job| job.n_logprobs = Some(100_000)),
        job(|job| job.n_prompt_logprobs = Some(usize::MAX)),
    ];
    for case in cases {
        let error = engine.submit(case.clone()).unwrap_err();
        assert!(
            matches!(error, SubmitError::Request(_)),
            "{case:?}: {error}"
        );
    }
    for texts in [vec![vec![]], vec![prompt(513, 1)], vec![vec![1_000_000]]] {
        let error = engine.embed(Owner::default(), texts).unwrap_err();
        assert!(matches!(error, SubmitError::Request(_)), "{error}");
    }
    assert!(run(&engine, job(|_| ())).outcome.is_ok());
}

#[test]
fn a_job_that_cannot_go_on_fails_alone() {
    let engine = engine(EngineOptions::default());
    let nothing = Request {
        sampling: SamplingParams {
            logit_bias: (0..hearth_testing::tiny_model::N_VOCAB)
                .map(|token| (token, f32::NEG_INFINITY))
                .collect(),
            ..SamplingParams::default()
        },
        ..Request::new(prompt(9, 1))
    };
    let good = engine.submit(endless(1)).unwrap();
    let bad = engine.submit(Job::new(nothing)).unwrap();
    let error = see(bad).outcome.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no token can be drawn at position 9"),
        "{error}"
    );
    assert_eq!(see(good).outcome.unwrap().finish, FinishReason::Length);
}

#[test]
fn a_shutdown_lets_end_what_ends_in_time() {
    let engine = engine(EngineOptions::default());
    let job = engine.submit(endless(1)).unwrap();
    engine.shut_down(Duration::from_secs(1000));
    assert_eq!(see(job).outcome.unwrap().finish, FinishReason::Length);
    assert_refuses(&engine);
}

#[test]
fn a_shutdown_without_grace_fails_the_rest() {
    let engine = engine(EngineOptions {
        max_sequences: 1,
        ..large()
    });
    let mut running = engine.submit(endless(1)).unwrap();
    until_token(&mut running);
    let waiting = engine.submit(endless(2)).unwrap();
    engine.shut_down(Duration::ZERO);
    for events in [running, waiting] {
        assert!(matches!(see(events).outcome, Err(JobError::ShuttingDown)));
    }
    assert_refuses(&engine);
    engine.shut_down(Duration::MAX);
}

fn assert_refuses(engine: &Engine) {
    let error = engine.submit(endless(1)).unwrap_err();
    assert!(matches!(error, SubmitError::ShuttingDown), "{error}");
    let error = engine.embed(Owner::default(), vec![vec![1]]).unwrap_err();
    assert!(matches!(error, SubmitError::ShuttingDown), "{error}");
}

#[test]
fn jobs_end_although_their_engine_is_dropped() {
    let engine = engine(EngineOptions::default());
    let job = engine.submit(endless(1)).unwrap();
    drop(engine);
    assert_eq!(see(job).outcome.unwrap().finish, FinishReason::Length);
}

#[test]
fn errors_name_what_is_wrong() {
    let engine = engine(EngineOptions::default());
    let error = engine
        .embed(Owner::default(), vec![vec![1], prompt(600, 1)])
        .unwrap_err();
    assert!(
        matches!(
            error,
            SubmitError::Request(RequestError::TextTooLong {
                n_prompt: 600,
                n_ctx: 512
            })
        ),
        "{error}"
    );
}
