//! Grammars changed at random: whatever comes of one, it is an error or a constraint that is kept, never a panic.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{
    super::*,
    check, entries, grammars,
    vocabulary::{Draw, Random, write},
};

/// Runs `work` for so many seeds and says which took longest; nothing is asserted of times.
fn for_seeds(what: &str, n: u64, mut work: impl FnMut(&mut Random) -> String) {
    let mut slowest = (Duration::ZERO, String::new());
    for seed in 0..n {
        let begin = Instant::now();
        let text = work(&mut Random::new(seed));
        slowest = slowest.max((begin.elapsed(), text));
    }
    let text: String = slowest.1.chars().take(300).collect();
    println!("{what}: {n}, the slowest {:?}: {text}", slowest.0);
}

fn pick<'a, T>(random: &mut Random, list: &'a [T]) -> &'a T {
    &list[random.below(list.len())]
}

/// Values that are wrong in most places, and right in some.
fn stray(random: &mut Random) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(3),
        json!(1e300),
        json!(0.5),
        json!(u64::MAX),
        json!(""),
        json!("a"),
        json!("#"),
        json!("#/$defs/a"),
        json!("^(a|b){2,5}$"),
        json!("date"),
        json!("object"),
        json!("integer"),
        json!("string"),
        json!([]),
        json!({}),
        json!(["a", "b"]),
        json!({"type": "string"}),
        json!({"type": "integer", "minimum": 2}),
        json!({"type": "object", "properties": {"a": {"type": "boolean"}}}),
        json!({"type": "array", "items": {"type": "null"}}),
        json!({"$ref": "#"}),
        json!({"enum": ["a", 1, null]}),
        json!([{"type": "integer"}, {"type": "string", "maxLength": 2}]),
    ];
    pick(random, &values).clone()
}

const WORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "$ref",
    "$defs",
    "title",
    "a",
    "",
];

/// Changes one place of a JSON value.
fn mutate(value: &mut Value, random: &mut Random) {
    let goes_down = random.below(4) > 0;
    match value {
        Value::Object(map) if goes_down && !map.is_empty() => {
            let at = random.below(map.len());
            let inner = map.values_mut().nth(at).expect("it is one of them");
            mutate(inner, random);
        }
        Value::Array(list) if goes_down && !list.is_empty() => {
            let at = random.below(list.len());
            mutate(&mut list[at], random);
        }
        Value::Object(map) => mutate_object(map, random),
        Value::Array(list) => match random.below(3) {
            0 => list.push(stray(random)),
            1 => drop(list.pop()),
            _ => list.extend(list.clone()),
        },
        other => *other = stray(random),
    }
}

fn mutate_object(map: &mut Map<String, Value>, random: &mut Random) {
    let word = (*pick(random, WORDS)).to_owned();
    let key = map.keys().nth(random.below(map.len().max(1))).cloned();
    match (random.below(4), key) {
        (0, Some(key)) => drop(map.remove(&key)),
        (1, Some(key)) => {
            let value = map.remove(&key).expect("it is one of them");
            map.insert(word, value);
        }
        (2, Some(key)) => {
            let value = map[&key].clone();
            map.insert(word, value);
        }
        _ => drop(map.insert(word, stray(random))),
    }
}

#[test]
fn changed_schemas_are_refused_or_kept() {
    let schemas = entries("enforced");
    let (mut n_taken, mut n_judged, mut failures) = (0, 0, Vec::new());
    for_seeds("schemas", 2000, |random| {
        let mut schema = pick(random, &schemas)["schema"].clone();
        for _ in 0..=random.below(2) {
            mutate(&mut schema, random);
        }
        let text = schema.to_string();
        let answer = AnswerGrammar::JsonSchema(schema.clone());
        let Ok(constraint) = grammars().compile(&Grammar {
            thinking: None,
            answer,
        }) else {
            return text;
        };
        n_taken += 1;
        let draw = *pick(random, &[Draw::Short, Draw::Quotes]);
        let Ok((answer, true)) = write(constraint, draw, random.below(1000) as u64, 120) else {
            return text;
        };
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema);
        if let Ok(validator) = validator {
            n_judged += 1;
            if let Err(problem) = check(&validator, &answer) {
                failures.push(format!("{text}\n  {problem}: {answer}"));
            }
        }
        text
    });
    println!("{n_taken} taken, {n_judged} answers judged");
    assert!(
        failures.is_empty(),
        "{}\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(n_judged > 300, "{n_judged} of {n_taken}");
}

/// Puts pieces of `alphabet` into a text, takes some away, doubles some.
fn scramble(text: &str, alphabet: &[&str], random: &mut Random) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(characters.len() + 1);
        let end = (at + random.below(6)).min(characters.len());
        let piece: Vec<char> = match random.below(3) {
            0 => Vec::new(),
            1 => characters[at..end].repeat(2),
            _ => pick(random, alphabet).chars().collect(),
        };
        characters.splice(at..end, piece);
    }
    characters.into_iter().collect()
}

/// A grammar that was taken writes something or says why not.
fn try_out(answer: AnswerGrammar, random: &mut Random) -> Option<String> {
    let grammar = Grammar {
        thinking: None,
        answer,
    };
    let constraint = grammars().compile(&grammar).ok()?;
    let (text, is_complete) = write(constraint, Draw::Short, random.below(1000) as u64, 60).ok()?;
    is_complete.then_some(text)
}

#[test]
fn changed_expressions_are_refused_or_kept() {
    let patterns = [
        r"^[A-Z]{3}-\d{4}$",
        "(cat|dog)+",
        r"^\w+@\w+\.com$",
        "a*b?c{2,}",
        r"[^\n\\]{1,5}",
        r"^(?:x|y){2}$",
        r"\p{L}+",
        "^$",
        r"(?<year>\d{4})",
        r"[\w.+-]+",
        "((a|b)*c){1,3}",
        r"^[a-z&&x]|\S\D\W$",
    ];
    let alphabet = [
        "(", ")", "[", "]", "{", "}", "{2,3}", "{0}", "*", "+", "?", "|", "^", "$", ".", "-", "\\",
        "\\d", "\\b", "\\1", "(?=", "(?:", "\\p{", "\\u00e9", "a", "Z", "9", ",", "é", "\n", "\"",
        "&&", "~~", "[^",
    ];
    let peculiar = regex::Regex::new(r"&&|~~|--|\\[<>]|\[[^\]]*\[").expect("a pattern");
    let (mut n_kept, mut failures) = (0, Vec::new());
    for_seeds("expressions", 3000, |random| {
        let pattern = scramble(pick::<&str>(random, &patterns), &alphabet, random);
        // What the crate reads as sets and borders is plain characters to JavaScript.
        let is_set = peculiar.is_match(&pattern);
        if let Some(text) = try_out(AnswerGrammar::Regex(pattern.clone()), random)
            && !is_set
            && let Ok(regex) = regex::Regex::new(&format!("^(?:{pattern})$"))
        {
            n_kept += 1;
            if !regex.is_match(&text) {
                failures.push(format!("{pattern:?}: {text:?}"));
            }
        }
        pattern
    });
    println!("{n_kept} kept");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_kept > 200, "{n_kept}");
}

#[test]
fn changed_grammars_are_refused_or_kept() {
    let gbnf = [
        super::grammars::JSON_GBNF,
        "root ::= \"yes\" | \"no\" (\" \" root)?",
        "root ::= item{2,3}\nitem ::= \"x\" [0-9]? # comment\n",
        "root ::= [^a-z\\]]+ \"\\x41\\u00e9\"\nws ::= [ \\t\\n]*",
    ];
    let lark = [
        "start: greeting \" \" NAME\ngreeting: \"hi\" | \"bye\"\nNAME: /[A-Z][a-z]{1,4}/",
        "start: item+\nitem: \"a\" ~ 2..3 | /[0-9]+/ | (\"x\" item)?\n%ignore /[ ]+/",
        "start: expr\nexpr: term (\"+\" term)*\nterm: NUMBER | \"(\" expr \")\"\nNUMBER: /[0-9]{1,3}/",
    ];
    let alphabet = [
        "root",
        "start",
        "::=",
        ":",
        "\"",
        "'",
        "(",
        ")",
        "[",
        "]",
        "{2}",
        "{,}",
        "*",
        "+",
        "?",
        "|",
        "\n",
        "#",
        "//",
        "/",
        "\\",
        "%ignore",
        "%json {}",
        "%import",
        "~ 2",
        "..",
        "NAME",
        "a",
        "é",
        "<[5]>",
        "<|im_end|>",
        "[lazy]",
        "%%",
        "&",
        "~",
    ];
    let mut n_kept = 0;
    for_seeds("GBNF", 1500, |random| {
        let text = scramble(pick::<&str>(random, &gbnf), &alphabet, random);
        n_kept += usize::from(try_out(AnswerGrammar::Gbnf(text.clone()), random).is_some());
        text
    });
    for_seeds("Lark", 1500, |random| {
        let text = scramble(pick::<&str>(random, &lark), &alphabet, random);
        n_kept += usize::from(try_out(AnswerGrammar::Lark(text.clone()), random).is_some());
        text
    });
    println!("{n_kept} kept");
    assert!(n_kept > 200, "{n_kept}");
}
