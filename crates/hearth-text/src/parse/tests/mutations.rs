//! Answers made and changed at random, cut at random: nothing is lost, and the cuts do not show.

use super::*;

/// Answers of every notation with all that a parser knows.
const ANSWERS: &[&str] = &[
    "<think>\nhm, {\"a\"}\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\": \"B\u{f6}nn\", \"days\": 3}}\n</tool_call> so",
    "<tool_call>{\"arguments\": \"{\\\"city\\\": \\\"x\\\"}\", \"name\": \"look\", \"id\": [1, {}]}</tool_call>",
    "{\"name\": \"look\", \"parameters\": {\"where\": {\"a\": [1, null]}}}",
    "well <|python_tag|>{\"name\": \"stop\", \"parameters\": {}}",
    "[TOOL_CALLS][{\"name\": \"look\", \"arguments\": {\"note\": null}}, {\"name\": \"stop\", \"arguments\": {}}] end",
    "a [TOOL_CALLS]look[CALL_ID]abcdefghi[ARGS]{\"deep\": true}[TOOL_CALLS]stop[ARGS]{}",
    "<tool_call>\n<function=look>\n<parameter=city>\nBonn < \u{1f332}\n</parameter>\n<parameter=count>\nnull\n</parameter>\n</function>\n</tool_call>\nx",
    "<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}><\u{ff5c}tool\u{2581}call\u{2581}begin\u{ff5c}>function<\u{ff5c}tool\u{2581}sep\u{ff5c}>look\n```json\n{\"any\": \"`\"}\n```<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}><\u{ff5c}tool\u{2581}calls\u{2581}end\u{ff5c}>",
];

const FRAGMENTS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<function=",
    "<parameter=",
    "</parameter>",
    "</function>",
    "{\"name\": \"look\"",
    "\"arguments\": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u",
    "\\ud83c",
    ",",
    ":",
    "\n",
    " ",
    "look",
    "stop",
    "```",
    "<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>",
    "<\u{ff5c}tool\u{2581}sep\u{ff5c}>",
    "\u{e9}",
    "0",
];

/// A generator of which nothing is asked but that it repeats itself.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// The text in pieces of one to seven characters.
    fn cut(&mut self, text: &str) -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        let (mut pieces, mut rest) = (Vec::new(), &characters[..]);
        while !rest.is_empty() {
            let n = (1 + self.below(7)).min(rest.len());
            pieces.push(rest[..n].iter().collect());
            rest = &rest[n..];
        }
        pieces
    }

    fn scramble(&mut self, text: &str) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        for _ in 0..self.below(6) {
            let at = self.below(characters.len() + 1);
            let end = (at + self.below(12)).min(characters.len());
            let piece: Vec<char> = match self.below(4) {
                0 => Vec::new(),
                1 => characters[at..end].repeat(2),
                _ => self.pick(FRAGMENTS).chars().collect(),
            };
            let end = if self.below(2) == 0 { at } else { end };
            characters.splice(at..end, piece);
        }
        characters.into_iter().collect()
    }
}

fn all_formats() -> Vec<AnswerFormat> {
    let thinking = [None, thinker().thinking];
    let with = |thinking: &Option<ThinkingTags>, tools| AnswerFormat {
        thinking: thinking.clone(),
        tools: Some(tools),
    };
    let formats = thinking
        .iter()
        .flat_map(|tags| ToolFormat::ALL.map(|tools| with(tags, tools)));
    formats.collect()
}

/// Without white space, which around calls and thoughts belongs to the notation.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

/// All that a client gets to see of an answer without calls, with the tags of a thought.
fn shown(pieces: &[Piece]) -> String {
    let (mut thought, mut text) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Reasoning(more) => thought += more,
            Piece::Text(more) => text += more,
            _ => {}
        }
    }
    thought + &text
}

/// The answer without the two tags of its thought.
fn untagged(answer: &str, format: &AnswerFormat, is_open: bool) -> String {
    let Some(tags) = &format.thinking else {
        return dense(answer);
    };
    let (begin, is_inside) = match answer.trim_start().strip_prefix(tags.open.as_str()) {
        Some(rest) => (rest, true),
        None => (answer, is_open),
    };
    match begin.split_once(tags.close.as_str()).filter(|_| is_inside) {
        Some((thought, text)) => dense(thought) + &dense(text),
        None => dense(begin),
    }
}

#[test]
fn changed_answers_lose_nothing_however_they_are_cut() {
    let (mut n_calls, mut n_plain) = (0, 0);
    let mut random = Random(1);
    for round in 0..1500 {
        let answer = random.pick(ANSWERS);
        let answer = random.scramble(answer);
        for format in all_formats() {
            let options = ParseOptions {
                tools: tools().into(),
                is_thinking_open: format.thinking.is_some() && round % 2 == 0,
            };
            let whole = parse_pieces(&format, &options, &[&answer]);
            let cuts = random.cut(&answer);
            let cuts: Vec<&str> = cuts.iter().map(String::as_str).collect();
            let parts = parse_pieces(&format, &options, &cuts);
            assert_eq!(
                short(&parts),
                short(&whole),
                "{format:?}: {answer:?} as {cuts:?}"
            );
            if whole
                .iter()
                .any(|piece| matches!(piece, Piece::CallBegin { .. }))
            {
                n_calls += 1;
            } else {
                n_plain += 1;
                let expected = untagged(&answer, &format, options.is_thinking_open);
                assert_eq!(dense(&shown(&whole)), expected, "{format:?}: {answer:?}");
            }
            let n_out: usize = short(&whole).len();
            assert!(
                n_out <= 64 + 8 * answer.len(),
                "{n_out} bytes from {}",
                answer.len()
            );
        }
    }
    println!("{n_calls} answers with calls, {n_plain} without");
    assert!(n_calls > 1000 && n_plain > 1000);
}

/// A value's text, whatever it has in it.
fn value(random: &mut Random) -> String {
    let pieces = [
        "a",
        " ",
        "</tool_call>",
        "\"",
        "\\",
        "]",
        "}",
        "[ARGS]",
        "\u{1f332}",
        "\u{e9}",
        "```",
        "\n",
        "<tool_call>",
        "x",
    ];
    (0..random.below(6)).map(|_| random.pick(&pieces)).collect()
}

/// A call in a notation, as the template writes it.
fn written(format: ToolFormat, name: &str, arguments: &[(&str, Value)]) -> String {
    let syntax = format.syntax();
    let body = match syntax.arguments {
        super::super::ArgumentSyntax::Json => {
            let map: serde_json::Map<String, Value> = arguments
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect();
            Value::Object(map).to_string()
        }
        super::super::ArgumentSyntax::Elements { begin, middle, end } => {
            let one = |(key, value): &(&str, Value)| {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                format!("{begin}{key}{middle}{text}{end}")
            };
            arguments.iter().map(one).collect()
        }
    };
    format!(
        "{}{name}{}{body}{}",
        syntax.begin, syntax.middle, syntax.end
    )
}

#[test]
fn what_is_written_in_a_notation_is_read_back() {
    let mut random = Random(7);
    for round in 0..600 {
        for format in ToolFormat::ALL {
            let syntax = format.syntax();
            let n_calls = if syntax.is_parallel {
                1 + random.below(3)
            } else {
                1
            };
            let mut expected = Vec::new();
            let mut calls = Vec::new();
            for _ in 0..n_calls {
                let arguments = [
                    ("city", Value::from(value(&mut random))),
                    ("days", Value::from(random.below(99))),
                    (
                        "where",
                        json!({"at": [random.below(9), null], "x": value(&mut random)}),
                    ),
                ];
                let arguments = &arguments[..random.below(4)];
                let name = random.pick(&["look", "stop"]);
                // Text in elements is read without quotes; other values must not hold the end's tag.
                calls.push(written(format, name, arguments));
                expected.push((name, arguments.to_vec()));
            }
            let before = if format == ToolFormat::Llama3Json {
                ""
            } else {
                random.pick(&["", "Let me see. ", "a < b\n\n"])
            };
            let answer = format!(
                "{before}{}{}{}",
                syntax.open,
                calls.join(syntax.between),
                syntax.close
            );
            let options = ParseOptions {
                tools: tools().into(),
                is_thinking_open: false,
            };
            let cuts = random.cut(&answer);
            let cuts: Vec<&str> = cuts.iter().map(String::as_str).collect();
            let pieces = parse_pieces(&super::format(format), &options, &cuts);
            assert_eq!(
                read_back(&pieces),
                (before.trim_end().to_owned(), expected_calls(&expected)),
                "{round} {format:?}: {answer:?} {pieces:?}"
            );
        }
    }
}

fn expected_calls(calls: &[(&str, Vec<(&str, Value)>)]) -> Vec<(String, Value)> {
    let object = |arguments: &Vec<(&str, Value)>| {
        let members = arguments
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        Value::Object(members.collect())
    };
    calls
        .iter()
        .map(|(name, arguments)| ((*name).to_owned(), object(arguments)))
        .collect()
}

fn read_back(pieces: &[Piece]) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls, mut open) =
        (String::new(), Vec::new(), (String::new(), String::new()));
    for piece in pieces {
        match piece {
            Piece::Text(more) => text += more,
            Piece::CallBegin { name } => open = (name.clone(), String::new()),
            Piece::CallArguments(more) => open.1 += more,
            Piece::CallEnd => {
                let value = serde_json::from_str(&open.1)
                    .unwrap_or_else(|error| panic!("{error}: {open:?}"));
                calls.push((std::mem::take(&mut open.0), value));
            }
            Piece::Reasoning(_) | Piece::Notice(_) => panic!("{piece:?}"),
        }
    }
    (text, calls)
}
