//! Jobs whose answers have a form, among others and without pages enough: what they write is what they write alone.

mod common;

use common::{Outcome, at_rest, engine, engine_of, llama, pages, prompt, run, sampled, see};
use hearth_engine::{
    AnswerGrammar, Engine, EngineOptions, FinishReason, Grammar, Job, ThinkingBudget,
    constraint::Thinking,
};
use serde_json::{Value, json};

fn grammar(answer: AnswerGrammar) -> Grammar {
    Grammar {
        thinking: None,
        answer,
    }
}

fn forms() -> [AnswerGrammar; 3] {
    let schema = json!({
        "type": "object",
        "properties": {
            "warm": {"type": "boolean"},
            "name": {"type": "string", "maxLength": 12},
            "n": {"type": "integer", "minimum": -5, "maximum": 500},
            "list": {"type": "array", "items": {"enum": ["a", "b", null]}, "maxItems": 3}
        },
        "required": ["warm", "name", "n", "list"],
        "additionalProperties": false
    });
    [
        AnswerGrammar::JsonSchema(schema),
        AnswerGrammar::Regex("(fire|ice) is (very )*(warm|cold)[.!]".to_owned()),
        AnswerGrammar::Choice(vec!["yes".to_owned(), "no, never".to_owned()]),
    ]
}

fn jobs(engine: &Engine) -> Vec<Job> {
    let forms = forms();
    let job = |index: u32| {
        let form = forms[index as usize % 3].clone();
        let mut request = sampled(&prompt(60 + index * 9, index), 150, u64::from(index));
        if index % 4 == 3 {
            request.sampling.temperature = 0.0;
        }
        Job {
            constraint: Some(engine.grammars().compile(&grammar(form)).unwrap()),
            n_logprobs: (index.is_multiple_of(2)).then_some(2),
            ..Job::new(request)
        }
    };
    (0..18).map(job).collect()
}

fn check(form: &AnswerGrammar, outcome: &Outcome) {
    if outcome.finish == FinishReason::Length {
        return;
    }
    let text = outcome.text.as_str();
    let is_right = match form {
        AnswerGrammar::JsonSchema(_) => serde_json::from_str(text).is_ok_and(|value: Value| {
            let n = value["n"].as_i64().unwrap();
            value["warm"].is_boolean() && (-5..=500).contains(&n) && value["list"].is_array()
        }),
        AnswerGrammar::Choice(all) => all.iter().any(|one| one == text),
        _ => text.starts_with("fire is ") || text.starts_with("ice is "),
    };
    assert!(is_right, "{text:?}");
}

#[test]
fn together_is_as_alone() {
    let one_by_one = engine(EngineOptions {
        max_sequences: 1,
        ..EngineOptions::default()
    });
    let expected: Vec<Outcome> = jobs(&one_by_one)
        .into_iter()
        .map(|job| run(&one_by_one, job).outcome.unwrap())
        .collect();
    let n_complete = expected
        .iter()
        .filter(|one| one.finish != FinishReason::Length);
    assert!(n_complete.count() >= 10, "{expected:?}");
    for (form, outcome) in forms().iter().cycle().zip(&expected) {
        check(form, outcome);
    }
    let model = llama();
    let crowded = engine_of(
        &model,
        EngineOptions {
            max_step_tokens: 40,
            kv_budget_bytes: Some(pages(&model, 9)),
            ..EngineOptions::default()
        },
    );
    let jobs = jobs(&crowded);
    let all: Vec<_> = jobs
        .into_iter()
        .map(|job| crowded.submit(job).unwrap())
        .collect();
    for (events, expected) in all.into_iter().zip(&expected) {
        assert_eq!(see(events).outcome.unwrap(), *expected);
    }
    assert_eq!(at_rest(&crowded).n_pages_used, 0);
}

#[test]
fn an_answer_that_is_complete_at_the_limit_is_not_cut_off() {
    let engine = engine(EngineOptions::default());
    let yes = grammar(AnswerGrammar::Choice(vec!["yes".to_owned()]));
    let constraint = engine.grammars().compile(&yes).unwrap();
    let finish = |n_tokens: usize| {
        let job = Job {
            constraint: Some(constraint.clone()),
            ..Job::new(sampled(&prompt(5, 1), n_tokens, 1))
        };
        let outcome = run(&engine, job).outcome.unwrap();
        (outcome.text, outcome.finish)
    };
    let whole = run(
        &engine,
        Job {
            constraint: Some(constraint.clone()),
            ..Job::new(sampled(&prompt(5, 1), 50, 1))
        },
    );
    // All of them but the one that ends it.
    let n_tokens = whole.outcome.unwrap().tokens.len() - 1;
    let complete = ("yes".to_owned(), FinishReason::EndOfGeneration { token: 2 });
    assert_eq!(finish(n_tokens), complete);
    assert_eq!(finish(n_tokens - 1).1, FinishReason::Length);
}

#[test]
fn same_forms_join_and_others_do_not() {
    let engine = engine(EngineOptions {
        max_sequences: 1,
        n_ctx: Some(3000),
        ..EngineOptions::default()
    });
    let mut first = sampled(&prompt(9, 1), 2900, 1);
    first.sampling.logit_bias = vec![(2, f32::NEG_INFINITY)];
    let blocking = engine.submit(Job::new(first)).unwrap();
    let job = |form: &AnswerGrammar| Job {
        constraint: Some(engine.grammars().compile(&grammar(form.clone())).unwrap()),
        ..Job::new(sampled(&prompt(5, 1), 50, 1))
    };
    let [a, b, c] = forms();
    let all: Vec<_> = [&a, &b, &a, &c, &a]
        .iter()
        .map(|form| engine.submit(job(form)).unwrap())
        .collect();
    let free = engine
        .submit(Job::new(sampled(&prompt(5, 1), 50, 1)))
        .unwrap();
    assert!(see(blocking).outcome.is_ok());
    let all: Vec<Outcome> = all
        .into_iter()
        .map(|events| see(events).outcome.unwrap())
        .collect();
    assert!(see(free).outcome.is_ok());
    assert_eq!(at_rest(&engine).n_joined, 2);
    assert_eq!((&all[0], &all[0]), (&all[2], &all[4]));
    assert_ne!(all[0], all[1]);
}

#[test]
fn a_thought_is_free_until_its_budget_is_spent_and_the_answer_is_not() {
    let engine = engine(EngineOptions::default());
    let tokenizer = engine.tokenizer();
    let close: Vec<u32> = (0..tokenizer.n_vocab() as u32)
        .filter(|token| tokenizer.piece(*token) == Some(b"</>".as_slice()))
        .collect();
    assert!(close.is_empty(), "the tiny vocabulary spells it in bytes");
    let close: Vec<u32> = b"</>".iter().map(|byte| 3 + u32::from(*byte)).collect();
    let grammar = Grammar {
        thinking: Some(Thinking {
            open: "<>".to_owned(),
            close: "</>".to_owned(),
            is_open: true,
        }),
        answer: AnswerGrammar::Choice(vec!["warm".to_owned(), "cold".to_owned()]),
    };
    let job = Job {
        constraint: Some(engine.grammars().compile(&grammar).unwrap()),
        thinking_budget: Some(ThinkingBudget {
            n_tokens: 7,
            open_text: None,
            close_text: "</>".to_owned(),
            close,
        }),
        ..Job::new(sampled(&prompt(20, 1), 60, 3))
    };
    let outcome = run(&engine, job).outcome.unwrap();
    let (thought, answer) = outcome
        .text
        .split_once("</>")
        .expect("the thought is closed");
    assert!(!thought.is_empty());
    assert!(
        ["warm", "cold"].contains(&answer.trim_start()),
        "{:?}",
        outcome.text
    );
    assert_eq!(outcome.finish, FinishReason::EndOfGeneration { token: 2 });
}
