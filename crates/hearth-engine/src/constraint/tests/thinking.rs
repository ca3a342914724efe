//! A thought in front of an answer is free, and no part of it.

use serde_json::{Value, json};

use super::{
    super::*,
    grammars,
    vocabulary::{Draw, allowed, token, tokenizer, tokens, write, write_behind},
};

fn constraint(is_open: bool) -> Constraint {
    let grammar = Grammar {
        thinking: Some(Thinking {
            open: "<think>".to_owned(),
            close: "</think>".to_owned(),
            is_open,
        }),
        answer: AnswerGrammar::JsonSchema(
            json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 99}}, "required": ["a"], "additionalProperties": false}),
        ),
    };
    grammars().compile(&grammar).expect("it compiles")
}

fn is_answer(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value["a"].is_i64())
        && text == text.trim_end()
}

#[test]
fn the_thought_is_free_and_cannot_end_the_answer() {
    let mut open = constraint(true);
    let n_ends = tokenizer().end_of_generation().len();
    let first = allowed(&mut open).expect("a way on");
    assert!(
        tokenizer()
            .end_of_generation()
            .iter()
            .all(|token| !first.contains(token))
    );
    assert!(
        first.len() + n_ends >= tokenizer().n_vocab() - 1,
        "{} tokens",
        first.len()
    );
    for beginning in ["", "hm {\"a\": 1} hm", "</thin", "<think>again"] {
        for close in ["</think>", "</think>\n", "</think>\n\n"] {
            let text = format!("{beginning}{close}");
            let (answer, is_complete) =
                write_behind(constraint(true), &text, Draw::Short, 5, 200).expect("a way on");
            let answer = &answer[text.len()..];
            assert!(is_complete && is_answer(answer), "{text:?} {answer:?}");
        }
    }
}

#[test]
fn a_closing_tag_in_pieces_closes() {
    let mut open = constraint(true);
    for token in ["</", "think", ">"].map(token) {
        assert!(allowed(&mut open).expect("a way on").contains(&token));
        open.take(token).expect("it is allowed");
    }
    assert!(allowed(&mut open).expect("a way on").contains(&token("{")));
    assert!(!allowed(&mut open).expect("a way on").contains(&token("a")));
}

#[test]
fn a_token_that_would_go_past_the_tag_waits() {
    let id = token;
    let mut open = constraint(true);
    assert!(allowed(&mut open).expect("a way on").contains(&id(">x")));
    open.take(id("</")).expect("free");
    open.take(id("think")).expect("free");
    let next = allowed(&mut open).expect("a way on");
    assert!(!next.contains(&id(">x")), "the answer would begin with x");
    assert!(next.contains(&id(">\n\n")), "line feeds are the notation's");
}

#[test]
fn a_thought_that_the_prompt_did_not_open_may_be_left_out() {
    let mut n_thoughts = 0;
    for seed in 0..20 {
        let (text, is_complete) =
            write(constraint(false), Draw::Quotes, seed, 3000).expect("a way on");
        let answer = match text.split_once("</think>") {
            Some((thought, answer)) => {
                n_thoughts += 1;
                assert!(thought.starts_with("<think>"), "{text:?}");
                answer.trim_start_matches('\n')
            }
            None => text.as_str(),
        };
        assert!(!is_complete || is_answer(answer), "{text:?}");
    }
    let (text, _) = write_behind(
        constraint(false),
        "<think>hm</think>\n\n",
        Draw::Short,
        1,
        100,
    )
    .expect("a way on");
    assert!(
        is_answer(&text["<think>hm</think>\n\n".len()..]),
        "{text:?}"
    );
    println!("{n_thoughts} of 20 thought");
}

#[test]
fn a_forced_end_of_the_thought_is_taken() {
    let mut open = constraint(true);
    for token in tokens("so\n</think>\n\n\n") {
        open.take(token)
            .expect("what is written in the model's place counts too");
    }
    assert!(allowed(&mut open).expect("a way on").contains(&token("{")));
}
