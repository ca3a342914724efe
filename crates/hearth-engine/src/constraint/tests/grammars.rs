//! Grammars in both notations, and what is refused of them.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    super::*,
    answers, compile,
    vocabulary::{Draw, allowed, write},
};

pub(super) const JSON_GBNF: &str = r##"
# llama.cpp's example, shortened
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9])? ws
ws     ::= ([ \t\n] ws)?
"##;

#[test]
fn gbnf_is_followed() {
    let cases: &[(&str, &str)] = &[
        ("root ::= \"yes\" | \"no\"", "yes|no"),
        ("root ::= [a-c]+ \"!\"", "[a-c]+!"),
        (
            "root ::= item{2,3}\nitem ::= \"x\" [0-9]?",
            "(x[0-9]?){2,3}",
        ),
        (
            "root ::= (\"a\" | \"b\")*\n\n# comment\nother ::= \"z\"",
            "[ab]*",
        ),
        (
            "root ::= \"\\x41\\u00e9\\n\" [^a-z\\]]",
            "A\u{e9}\n[^a-z\\]]",
        ),
        ("root ::= list\nlist ::= \"a\" | \"a,\" list", "a(,a)*"),
        ("root ::= ( # in a group\n \"a\"\n | \"b\"\n )", "a|b"),
        ("root ::= [a-z]* \"end\"", "[a-z]*end"),
    ];
    for (grammar, pattern) in cases {
        let constraint = compile(AnswerGrammar::Gbnf((*grammar).to_owned()))
            .unwrap_or_else(|error| panic!("{grammar}: {error}"));
        let whole = regex::Regex::new(&format!("^(?s:{pattern})$")).expect("a pattern");
        let answers = answers(&constraint);
        assert!(!answers.is_empty(), "{grammar}");
        for text in answers {
            assert!(whole.is_match(&text), "{grammar}: {text:?}");
        }
    }
}

#[test]
fn gbnf_with_recursion_is_followed() {
    let constraint = compile(AnswerGrammar::Gbnf(JSON_GBNF.to_owned())).expect("it is a grammar");
    let answers = answers(&constraint);
    assert!(!answers.is_empty());
    for text in answers {
        // Half of a surrogate pair is in the grammar and in no JSON text.
        let value: Result<Value, _> = serde_json::from_str(&text.replace("\\u", "\\\\u"));
        assert!(value.is_ok_and(|value| value.is_object()), "{text}");
    }
    let nested = compile(AnswerGrammar::Gbnf(
        "root ::= \"(\" root \")\" | \"x\"".to_owned(),
    ))
    .expect("it is a grammar");
    for text in super::answers(&nested) {
        let n_open = text.matches('(').count();
        assert_eq!(
            text,
            format!("{}x{}", "(".repeat(n_open), ")".repeat(n_open))
        );
    }
}

#[test]
fn bad_gbnf_is_refused_with_its_line() {
    let cases = [
        ("", "root"),
        ("start ::= \"a\"", "root"),
        ("root ::= missing", "missing"),
        ("root ::= \"a", "early"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2"),
        ("root = \"a\"", "::="),
        ("root ::= \"a\" )", "line 1"),
        ("root ::= (\"a\"", ")"),
        ("root ::= [z-a]", "range"),
        ("root ::= []", "class"),
        ("root ::= \"a\"{3,2}", "count"),
        ("root ::= \"a\"{99999}", "repetitions"),
        ("root ::= \"\\q\"", "escape"),
        ("root ::= * \"a\"", "repeats nothing"),
        ("root ::= <[5]>", "tokens"),
        ("root ::= \"a\" root", "satisfies"),
        ("root ::= root", "satisfies"),
    ];
    for (grammar, expected) in cases {
        let error = compile(AnswerGrammar::Gbnf(grammar.to_owned()))
            .expect_err(grammar)
            .to_string();
        assert!(error.contains(expected), "{grammar:?}: {error}");
    }
}

#[test]
fn lark_is_followed() {
    let grammar = "start: greeting \" \" NAME\ngreeting: \"hi\" | \"bye\"\nNAME: /[A-Z][a-z]{1,4}/";
    let constraint = compile(AnswerGrammar::Lark(grammar.to_owned())).expect("it is a grammar");
    let whole = regex::Regex::new("^(hi|bye) [A-Z][a-z]{1,4}$").expect("a pattern");
    let answers = answers(&constraint);
    assert!(!answers.is_empty());
    assert!(
        answers.iter().all(|text| whole.is_match(text)),
        "{answers:?}"
    );
}

#[test]
fn bad_lark_is_refused() {
    for grammar in [
        "",
        "start: missing",
        "start: /(/",
        "start: %json {\"type\": \"object\"}",
        "start: x\nx[temperature=0.5]: /a/",
        "start: \"a",
        "x: \"a\"",
    ] {
        let error = compile(AnswerGrammar::Lark(grammar.to_owned())).expect_err(grammar);
        assert!(
            matches!(error, ConstraintError::Grammar { .. }),
            "{grammar}: {error}"
        );
    }
}

/// CVE-2025-48944 and its kind: what is hostile costs its sender an error, and nobody else anything.
#[test]
fn hostile_grammars_come_to_an_end() {
    let deep = (0..200).fold(
        json!({"type": "integer"}),
        |inner, _| json!({"items": inner}),
    );
    let wide = json!({"enum": (0..30_000).map(|n| format!("{n:08}")).collect::<Vec<_>>()});
    let doubling = json!({
        "$defs": (0..30).map(|n| (format!("d{n}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", n + 1)}, {"properties": {"a": {"$ref": format!("#/$defs/d{}", n + 1)}}}]}))).chain([("d30".to_owned(), json!({"type": "object"}))]).collect::<serde_json::Map<_, _>>(),
        "$ref": "#/$defs/d0",
    });
    let alternatives = json!({"allOf": (0..12).map(|n| json!({"anyOf": (0..6).map(|m| json!({"type": "object", "properties": {format!("p{n}_{m}"): {"type": "integer"}}})).collect::<Vec<_>>()})).collect::<Vec<_>>()});
    let counted = json!({"type": "object", "properties": (0..1000).map(|n| (format!("p{n}"), json!({"type": "integer"}))).collect::<serde_json::Map<_, _>>(), "minProperties": 500});
    let rules: String = (0..1500)
        .map(|n| format!("r{n} ::= r{} r{}\n", n + 1, n + 1))
        .collect();
    let cases = [
        ("deep", AnswerGrammar::JsonSchema(deep), false),
        ("wide", AnswerGrammar::JsonSchema(wide), false),
        ("doubling", AnswerGrammar::JsonSchema(doubling), true),
        (
            "alternatives",
            AnswerGrammar::JsonSchema(alternatives),
            false,
        ),
        ("counted", AnswerGrammar::JsonSchema(counted), false),
        (
            "long name",
            AnswerGrammar::JsonSchema(json!({"properties": {"x".repeat(300_000): {}}})),
            false,
        ),
        (
            "repetitions",
            AnswerGrammar::Regex("((a{1,1000}){1,1000}){1,1000}".to_owned()),
            true,
        ),
        (
            "backtracking",
            AnswerGrammar::Regex("(a*)*(a|a)*b".to_owned()),
            true,
        ),
        (
            "intersection",
            AnswerGrammar::JsonSchema(
                json!({"allOf": [{"type": "string", "pattern": "^(.*a.{20}b)*$"}, {"pattern": "^(.*b.{19}c)*$"}, {"pattern": "^(.*c.{18}d)*$"}]}),
            ),
            true,
        ),
        (
            "choices",
            AnswerGrammar::Choice(vec![String::new(); 20_000]),
            false,
        ),
        (
            "gbnf",
            AnswerGrammar::Gbnf(format!("root ::= r0\n{rules}r1500 ::= \"a\"")),
            false,
        ),
        (
            "groups",
            AnswerGrammar::Gbnf(format!(
                "root ::= {}\"a\"{}",
                "(".repeat(3000),
                ")".repeat(3000)
            )),
            false,
        ),
        (
            "lark",
            AnswerGrammar::Lark(format!("start: {}", "(".repeat(3000))),
            false,
        ),
    ];
    for (name, answer, may_be_taken) in cases {
        let begin = Instant::now();
        match compile(answer) {
            Ok(constraint) => {
                assert!(may_be_taken, "{name} was taken");
                // It may fail, and must come back.
                let _ = write(constraint, Draw::Any, 1, 60);
            }
            Err(error) => println!("{name}: {error}"),
        }
        println!("{name}: {:?}", begin.elapsed());
    }
}

#[test]
fn what_is_allowed_depends_on_nothing_else() {
    let schema = json!({"type": "object", "properties": {"s": {"type": "string", "pattern": "^(ab|cd)*$", "maxLength": 40}, "n": {"type": "number", "minimum": 0.25, "maximum": 17}}, "required": ["s", "n"]});
    let answer = AnswerGrammar::JsonSchema(schema);
    let (mut one, used) = (
        compile(answer.clone()).expect("it compiles"),
        compile(answer).expect("it compiles"),
    );
    // A clone that others have been drawn from gives what a new one gives.
    for seed in 0..5 {
        write(used.clone(), Draw::Any, seed, 200).expect("a way on");
    }
    let mut other = used.clone();
    for _ in 0..40 {
        let (a, b) = (
            allowed(&mut one).expect("a way on"),
            allowed(&mut other).expect("a way on"),
        );
        assert_eq!(a, b);
        let token = a[a.len() / 2];
        one.take(token).expect("allowed");
        other.take(token).expect("allowed");
        if one.must_end() || super::vocabulary::tokenizer().is_end_of_generation(token) {
            break;
        }
    }
}

#[test]
fn a_token_that_is_not_allowed_is_an_error() {
    let mut constraint = compile(AnswerGrammar::Regex("abc".to_owned())).expect("it compiles");
    assert!(matches!(
        constraint.take(super::vocabulary::token("x")),
        Err(ConstraintError::Broken { .. })
    ));
    let mut constraint = compile(AnswerGrammar::Regex("abc".to_owned())).expect("it compiles");
    let end = super::vocabulary::tokenizer().end_of_generation()[0];
    assert!(matches!(
        constraint.take(end),
        Err(ConstraintError::Broken { .. })
    ));
}
