//! Bodies that are damaged in every way a seeded generator can think of: none is more than a refusal.
//!
//! The same seeds give the same bodies on every machine, so a failure names one that can be sent again.

use hearth_server::limits::Limits;
use serde_json::{Value, json};

use crate::{
    support::{Answer, Client, dialect_of, expected_dialect},
    table::{Case, cases, setup},
};

/// Bodies for each route.
const N_BODIES: u64 = 300;

/// Numbers that no JSON library agrees on, as they are written.
const NUMBERS: &[&str] = &[
    "1e999",
    "-1e999",
    "1e-999",
    "-0",
    "-0.0",
    "0.1",
    "1.5",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e400",
    "1E+2",
    "NaN",
    "Infinity",
    "0x10",
    "01",
    ".5",
    "1_000",
];

/// Texts that mean something to somebody.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "banana",
    "tiny",
    "auto",
    "none",
    "required",
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "json_schema",
    "json_object",
    "function",
    "<|im_start|>",
    "<think>",
    "<tool_call>",
    "\u{1f525}\u{200d}",
    "\u{feff}",
    "../x",
    "{{ 7*7 }}",
    "(a+)+$",
];

/// Names of fields somewhere in the dialects.
const NAMES: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "input",
    "max_tokens",
    "n",
    "stop",
    "stream",
    "tools",
    "tool_choice",
    "response_format",
    "role",
    "content",
    "type",
    "text",
    "function",
    "name",
    "parameters",
    "arguments",
    "tool_calls",
    "logit_bias",
    "logprobs",
    "options",
    "format",
    "think",
    "keep_alive",
    "system",
    "schema",
    "thinking",
    "budget_tokens",
    "hearth",
    "strict",
    "previous_response_id",
    "item_reference",
    "images",
    "context",
    "suffix",
    "echo",
    "grammar",
    "guided_regex",
    "chat_template_kwargs",
    "dimensions",
];

/// Bytes that end, begin or break something.
const PIECES: &[&[u8]] = &[
    b"\\ud800",
    b"\"",
    b"[[[[[[[[",
    b"{\"a\":",
    b",",
    b"\\",
    b"\xf0\x9f",
];

/// Parts of paths, good and odd.
const PARTS: &[&str] = &[
    "/",
    "/",
    "/",
    "//",
    "v1",
    "api",
    "models",
    "responses",
    "chat",
    "completions",
    "messages",
    "count_tokens",
    "input_items",
    "tags",
    "tiny",
    "resp_1",
    "{id}",
    "%2F",
    "%2f",
    "%2e%2e",
    "..",
    ".",
    "%00",
    "%ff",
    "%C3%A9",
    "%",
    "%zz",
    "?",
    "&",
    "=",
    "#",
    "*",
    ";",
    "~",
    "\\",
    "'",
    "<x>",
    "limit=9",
    "stream=true",
    "order=%ff",
    "\u{e9}",
    "a-very-long-part-of-a-path-that-leads-nowhere",
];

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Number of values in a value, itself included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

/// The value at a place in the order of their writing.
fn nth(value: &mut Value, mut at: usize) -> &mut Value {
    if at == 0 {
        return value;
    }
    at -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        let n = size(child);
        if at < n {
            return nth(child, at);
        }
        at -= n;
    }
    unreachable!("the place is within the value")
}

/// Stands for a number that serde would not write; see [`written`].
fn raw_number(random: &mut Random) -> Value {
    json!(format!("@number{}@", random.below(NUMBERS.len())))
}

fn odd_value(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!({}),
        3 => json!([]),
        4 => json!([null]),
        5 => json!({"type": *random.one(TEXTS)}),
        6 => json!("x".repeat(20_000)),
        7 => nested(random),
        8 => json!(vec![0; 2000]),
        9 => json!(*random.one(TEXTS)),
        _ => raw_number(random),
    }
}

fn nested(random: &mut Random) -> Value {
    let depth = *random.one(&[3, 60, 90, 120]);
    let is_list = random.below(2) == 0;
    let name = *random.one(NAMES);
    (0..depth).fold(json!(1), |inner, _| {
        if is_list {
            json!([inner])
        } else {
            json!({name: inner})
        }
    })
}

/// Changes one value of a body.
fn change(body: &mut Value, random: &mut Random) {
    let at = random.below(size(body));
    let place = nth(body, at);
    match (random.below(4), place) {
        (0, Value::Object(map)) if !map.is_empty() => {
            let name = map
                .keys()
                .nth(random.below(map.len()))
                .expect("it has so many")
                .clone();
            map.remove(&name);
        }
        (1, Value::Object(map)) => {
            map.insert((*random.one(NAMES)).to_owned(), odd_value(random));
        }
        (0, Value::Array(list)) if !list.is_empty() => {
            let again = list[random.below(list.len())].clone();
            list.push(again);
        }
        (_, place) => *place = odd_value(random),
    }
}

/// A body as bytes, its odd numbers as they are to be written.
fn written(body: &Value) -> Vec<u8> {
    let mut text = body.to_string();
    for (at, number) in NUMBERS.iter().enumerate() {
        text = text.replace(&format!("\"@number{at}@\""), number);
    }
    text.into_bytes()
}

/// Changes bytes without a thought for what they mean.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.insert(at, random.next() as u8),
        3 => drop(bytes.drain(at..(at + random.below(40)).min(bytes.len()))),
        4 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        _ => {
            let deep = b"[".repeat(50_000);
            drop(bytes.splice(at..at, deep));
        }
    }
}

/// The body of a number; the first ones are whole JSON, the others perhaps not.
fn mutated(case: &Case, others: &[Case], number: u64, random: &mut Random) -> Vec<u8> {
    let mut body = case.body.clone();
    if number % 10 == 9 {
        body = random.one(others).body.clone();
    }
    for _ in 0..1 + random.below(3) {
        change(&mut body, random);
    }
    let mut bytes = written(&body);
    if number % 3 == 2 {
        damage(&mut bytes, random);
    }
    bytes
}

/// The answer to one body, on a connection that is used again.
async fn answer_to(client: &mut Client, case: &Case, body: &[u8]) -> Answer {
    client.send_bytes(case.method, case.path, &[], body).await;
    let answer = client.answer(false).await;
    answer.unwrap_or_else(|| {
        panic!(
            "{}: no answer to {}",
            case.path,
            String::from_utf8_lossy(body)
        )
    })
}

fn check(case: &Case, body: &[u8], answer: &Answer) {
    let shown = String::from_utf8_lossy(&body[..body.len().min(2000)]);
    let text = answer.text();
    assert!(
        answer.status < 500,
        "{}: {} {text} to {shown}",
        case.path,
        answer.status
    );
    if answer.status >= 400 {
        assert_eq!(dialect_of(answer), expected_dialect(case.path), "{shown}");
        assert!(
            answer.body.len() < 10_000,
            "an error does not repeat what it was sent: {shown}"
        );
        return;
    }
    // A stream that ends in a fault of ours has begun with a good status.
    let is_faulty = ["\"server_error\"", "\"api_error\"", "its log says why"]
        .iter()
        .any(|word| text.contains(word));
    assert!(!is_faulty, "{}: {text} to {shown}", case.path);
}

#[tokio::test]
async fn no_damaged_body_is_more_than_a_refusal() {
    let mut setup = setup();
    setup.limits = Limits {
        n: 4,
        prompts: 8,
        answers: 8,
        inputs: 8,
        ..Limits::default()
    };
    let server = setup.serve().await;
    let cases = cases();
    for (route, case) in cases.iter().enumerate() {
        let mut client = server.connect().await;
        let (mut n_good, mut n_bad) = (0, 0);
        for number in 0..N_BODIES {
            let mut random = Random(((route as u64) << 32) | number);
            let body = mutated(case, &cases, number, &mut random);
            let answer = answer_to(&mut client, case, &body).await;
            check(case, &body, &answer);
            if answer.status < 400 {
                n_good += 1
            } else {
                n_bad += 1
            }
        }
        assert!(
            n_bad > N_BODIES / 5,
            "{}: only {n_bad} of {N_BODIES} were refused",
            case.path
        );
        assert!(
            case.status != 200 || n_good > 0,
            "{}: nothing got through",
            case.path
        );
        let answer = client
            .ask(case.method, case.path, &[], &case.body.to_string())
            .await;
        assert_eq!(
            answer.status,
            case.status,
            "{} afterwards: {}",
            case.path,
            answer.text()
        );
    }
    assert!(server.is_alive().await);
}

#[tokio::test]
async fn no_odd_path_is_more_than_a_refusal() {
    let server = setup().serve().await;
    let mut random = Random(7);
    for _ in 0..2000 {
        let n = 1 + random.below(9);
        let rest: String = (0..n).map(|_| *random.one(PARTS)).collect();
        let path = format!("/{rest}");
        let method = *random.one(&["GET", "POST", "DELETE", "PUT", "OPTIONS", "PATCH"]);
        let answer = server.ask(method, &path, &[], "").await;
        assert!(answer.status < 500, "{method} {path}: {}", answer.text());
        // What is no HTTP is refused before there is a dialect.
        if answer.status >= 400 && !answer.body.is_empty() {
            dialect_of(&answer);
        }
    }
    assert!(server.is_alive().await);
}
