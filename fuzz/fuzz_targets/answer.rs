//! Any answer in any notation of thoughts and calls: however it is cut the pieces are the same, and nothing is lost.
//!
//! The first byte chooses the notation and whether the prompt ended in a thought, the second where the text is cut.

#![no_main]

use hearth_text::parse::{
    AnswerFormat, AnswerParser, OfferedTool, ParseOptions, Piece, ThinkingTags, ToolFormat,
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: &[u8]| {
    hearth_fuzz::within_budget(input, |input| {
        let [choice, cut, text @ ..] = input else {
            return;
        };
        if let Ok(text) = std::str::from_utf8(text) {
            read(usize::from(*choice), usize::from(*cut), text);
        }
    });
});

fn read(choice: usize, cut: usize, text: &str) {
    let thinking = ThinkingTags {
        open: "<think>".to_owned(),
        close: "</think>".to_owned(),
    };
    let format = AnswerFormat {
        thinking: (choice & 64 != 0).then_some(thinking),
        tools: Some(ToolFormat::ALL[choice % ToolFormat::ALL.len()]),
    };
    let options = ParseOptions {
        tools: [tool()].into(),
        is_thinking_open: choice & 128 != 0,
    };
    let whole = parse(&format, &options, [text]);
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(1 + cut % 16).map(|chunk| chunk.iter().collect::<String>());
    assert_eq!(parse(&format, &options, pieces), whole, "cut otherwise");
    if format.thinking.is_none() && !whole.iter().any(|piece| matches!(piece, Piece::CallBegin { .. })) {
        let shown = whole.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            _ => None,
        });
        assert_eq!(shown.collect::<String>(), text, "text without a call is the answer");
    }
}

fn tool() -> OfferedTool {
    let parameters = json!({"type": "object", "properties": {"s": {"type": "string"}, "n": {"type": ["integer", "null"]}, "o": {}}});
    OfferedTool {
        name: "f".to_owned(),
        parameters: Some(parameters),
    }
}

/// All pieces, neighbours of one kind joined.
fn parse(
    format: &AnswerFormat,
    options: &ParseOptions,
    texts: impl IntoIterator<Item = impl AsRef<str>>,
) -> Vec<Piece> {
    let mut parser = AnswerParser::new(format, options.clone());
    let mut pieces = Vec::new();
    for text in texts {
        parser.push(text.as_ref(), &mut pieces);
    }
    parser.finish(&mut pieces);
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(more))
            | (Some(Piece::Reasoning(last)), Piece::Reasoning(more))
            | (Some(Piece::CallArguments(last)), Piece::CallArguments(more)) => last.push_str(&more),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}
