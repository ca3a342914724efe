//! Broken files, and the promises that hold for every tokenizer.

use hearth_gguf::{Gguf, GgufWriter, Value};

use super::*;
use crate::Detokenizer;

const PLAIN: Encode = Encode {
    add_special: false,
    parse_special: false,
};
const PARSED: Encode = Encode {
    add_special: false,
    parse_special: true,
};

type Keys = Vec<(&'static str, Value)>;

fn build(keys: &Keys) -> Result<Tokenizer, TextError> {
    let mut writer = GgufWriter::new();
    writer
        .add_value("general.architecture", Value::String("test".to_owned()))
        .unwrap();
    for (key, value) in keys {
        writer.add_value(key, value.clone()).unwrap();
    }
    let bytes = writer.begin(Vec::new()).unwrap().finish().unwrap();
    Tokenizer::from_metadata(Gguf::from_vec(bytes).unwrap().metadata())
}

fn strings(texts: &[&str]) -> Value {
    Value::Array(hearth_gguf::Array::String(texts.iter().collect()))
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// All bytes, a few words, and special tokens of each kind.
fn spm_keys() -> Keys {
    let mut tokens: Vec<String> =
        vec!["<unk>".into(), "<s>".into(), "</s>".into(), "<tool>".into()];
    let mut types = vec![2, 3, 3, 4];
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    types.extend([6; 256]);
    for word in ["▁", "a", "b", "aa", "aaaa", "▁a", "▁ab", "é", "▁▁"] {
        tokens.push(word.into());
        types.push(1);
    }
    let scores: Vec<f32> = (0..tokens.len()).map(|i| -(i as f32)).collect();
    vec![
        ("tokenizer.ggml.model", text("llama")),
        (
            "tokenizer.ggml.tokens",
            Value::Array(hearth_gguf::Array::String(tokens.iter().collect())),
        ),
        ("tokenizer.ggml.token_type", Value::from(types)),
        ("tokenizer.ggml.scores", Value::from(scores)),
        ("tokenizer.ggml.bos_token_id", Value::from(1u32)),
        ("tokenizer.ggml.eos_token_id", Value::from(2u32)),
        ("tokenizer.ggml.unknown_token_id", Value::from(0u32)),
        ("tokenizer.ggml.seperator_token_id", Value::from(u32::MAX)),
    ]
}

fn bpe_keys() -> Keys {
    let alphabet = (0..0x144)
        .filter_map(char::from_u32)
        .filter(|&c| byte_map::byte_of(c).is_some());
    let mut tokens: Vec<String> = alphabet.map(String::from).collect();
    let mut types = vec![1; tokens.len()];
    for (token, kind) in [
        ("aa", 1),
        ("aaaa", 1),
        ("Ġa", 1),
        ("<|im_end|>", 3),
        ("<think>", 4),
    ] {
        tokens.push(token.into());
        types.push(kind);
    }
    vec![
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("qwen2")),
        (
            "tokenizer.ggml.tokens",
            Value::Array(hearth_gguf::Array::String(tokens.iter().collect())),
        ),
        ("tokenizer.ggml.token_type", Value::from(types)),
        ("tokenizer.ggml.merges", strings(&["a a", "aa aa", "Ġ a"])),
    ]
}

fn with(mut keys: Keys, key: &'static str, value: Value) -> Keys {
    keys.retain(|(k, _)| *k != key);
    keys.push((key, value));
    keys
}

fn without(mut keys: Keys, key: &str) -> Keys {
    keys.retain(|(k, _)| *k != key);
    keys
}

fn tokens_of(keys: &Keys) -> Vec<String> {
    let Some((_, Value::Array(hearth_gguf::Array::String(tokens)))) =
        keys.iter().find(|(k, _)| *k == "tokenizer.ggml.tokens")
    else {
        panic!("the keys have tokens")
    };
    tokens
        .iter()
        .map(|t| String::from_utf8(t.to_vec()).unwrap())
        .collect()
}

fn replace_token(keys: Keys, index: usize, token: &str) -> Keys {
    let mut tokens = tokens_of(&keys);
    tokens[index] = token.to_owned();
    with(
        keys,
        "tokenizer.ggml.tokens",
        Value::Array(hearth_gguf::Array::String(tokens.iter().collect())),
    )
}

#[test]
fn each_broken_file_has_its_own_error() {
    let error = |keys: Keys| build(&keys).unwrap_err().to_string();
    for (keys, expected) in [
        (vec![], "metadata key \"tokenizer.ggml.model\" is missing"),
        (
            with(spm_keys(), "tokenizer.ggml.model", text("rwkv")),
            "tokenizer model \"rwkv\" is not supported; known are bert, gpt2 and llama",
        ),
        (
            with(spm_keys(), "tokenizer.ggml.model", Value::from(3u32)),
            "metadata key \"tokenizer.ggml.model\" must be a string, found u32",
        ),
        (
            with(spm_keys(), "tokenizer.ggml.tokens", strings(&[])),
            "the vocabulary is empty",
        ),
        (
            with(
                spm_keys(),
                "tokenizer.ggml.scores",
                Value::from(vec![0.0f32; 3]),
            ),
            "metadata key \"tokenizer.ggml.scores\" has 3 elements, the vocabulary has 269 tokens",
        ),
        (
            without(spm_keys(), "tokenizer.ggml.scores"),
            "metadata key \"tokenizer.ggml.scores\" is missing",
        ),
        (
            with(
                spm_keys(),
                "tokenizer.ggml.scores",
                Value::from(vec![f32::NAN; 269]),
            ),
            "score of token 0 is not a number",
        ),
        (
            with(
                spm_keys(),
                "tokenizer.ggml.token_type",
                Value::from(vec![7i32; 269]),
            ),
            "token 0 has type 7, types are 1 to 6",
        ),
        (
            with(
                spm_keys(),
                "tokenizer.ggml.token_type",
                Value::from(vec![1i32; 2]),
            ),
            "metadata key \"tokenizer.ggml.token_type\" has 2 elements, the vocabulary has 269 tokens",
        ),
        (
            with(
                spm_keys(),
                "tokenizer.ggml.bos_token_id",
                Value::from(269u32),
            ),
            "metadata key \"tokenizer.ggml.bos_token_id\" is 269, the vocabulary has 269 tokens",
        ),
        (
            replace_token(spm_keys(), 5, "<0x-1>"),
            "byte token 5 has the text \"<0x-1>\", expected <0x00> to <0xFF>",
        ),
        (
            replace_token(spm_keys(), 5, "<0x100>"),
            "byte token 5 has the text \"<0x100>\", expected <0x00> to <0xFF>",
        ),
        (
            replace_token(spm_keys(), 5, "<0x00>"),
            "byte tokens 4 and 5 both stand for byte 0x00",
        ),
        (
            with(bpe_keys(), "tokenizer.ggml.pre", text("mystery")),
            "pre-tokenizer \"mystery\" is not supported",
        ),
        (
            with(bpe_keys(), "tokenizer.ggml.merges", strings(&["a a", "aa"])),
            "merge 1 (\"aa\") is not two tokens with one space between them",
        ),
        (
            with(bpe_keys(), "tokenizer.ggml.merges", strings(&["a b c"])),
            "merge 0 (\"a b c\") is not two tokens with one space between them",
        ),
        (
            with(bpe_keys(), "tokenizer.ggml.merges", strings(&["a b"])),
            "merge 0 needs the token \"ab\", which the vocabulary lacks",
        ),
        (
            without(bpe_keys(), "tokenizer.ggml.merges"),
            "metadata key \"tokenizer.ggml.merges\" is missing",
        ),
    ] {
        assert_eq!(error(keys), expected);
    }
}

#[test]
fn what_is_odd_but_usable_is_noted() {
    let tokenizer = build(&without(bpe_keys(), "tokenizer.ggml.pre")).unwrap();
    assert!(
        tokenizer.notices()[0].contains("tokenizer.ggml.pre"),
        "{:?}",
        tokenizer.notices()
    );
    let keys = with(
        spm_keys(),
        "tokenizer.ggml.seperator_token_id",
        Value::from(50_282u32),
    );
    let tokenizer = build(&keys).unwrap();
    assert!(
        tokenizer.notices()[0].contains("50282"),
        "{:?}",
        tokenizer.notices()
    );
    let tokenizer = build(&replace_token(spm_keys(), 262, "a")).unwrap();
    assert!(
        tokenizer.notices()[0].contains("repeat"),
        "{:?}",
        tokenizer.notices()
    );
    assert!(build(&spm_keys()).unwrap().notices().is_empty());
    assert!(build(&bpe_keys()).unwrap().notices().is_empty());
}

#[test]
fn a_key_that_changes_tokens_is_refused_unless_it_is_neutral() {
    let key = |name, value: Value| build(&with(spm_keys(), name, value));
    let error = |name, value| key(name, value).unwrap_err().to_string();
    let spaces = "tokenizer.ggml.remove_extra_whitespaces";
    let map = "tokenizer.ggml.precompiled_charsmap";
    let lowercase = "tokenizer.ggml.normalizer.lowercase";
    let unsupported = "which this tokenizer does not support";
    assert_eq!(
        error(spaces, Value::from(true)),
        format!("metadata key {spaces:?} is true, {unsupported}")
    );
    assert_eq!(
        error(map, Value::from(vec![1u8])),
        format!("metadata key {map:?} is not empty, {unsupported}")
    );
    assert_eq!(
        error(lowercase, Value::from(true)),
        format!("metadata key {lowercase:?} is true, {unsupported}")
    );
    let harmless = [
        (spaces, Value::from(false)),
        (map, Value::from(Vec::<u8>::new())),
        (lowercase, Value::from(false)),
        ("tokenizer.ggml.add_sep_token", Value::from(true)),
        ("tokenizer.ggml.fim_pad_token_id", Value::from(3u32)),
        ("tokenizer.huggingface.json", text("{}")),
        ("tokenizer.chat_template", text("")),
    ];
    for (name, value) in harmless {
        let tokenizer = key(name, value).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(tokenizer.notices().is_empty(), "{:?}", tokenizer.notices());
    }
}

#[test]
fn unknown_keys_are_named_without_their_control_characters() {
    let mut keys = spm_keys();
    keys.push(("tokenizer.ggml.fold\u{1b}[2J", Value::from(true)));
    let tokenizer = build(&keys).unwrap();
    assert_eq!(
        tokenizer.notices(),
        [
            "1 keys of the tokenizer are not known and are ignored: \"tokenizer.ggml.fold\\u{1b}[2J\""
        ]
    );
}

#[test]
fn special_ids_and_flags_are_read() {
    let tokenizer = build(&spm_keys()).unwrap();
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.separator()),
        (Some(1), Some(2), None)
    );
    assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
    assert!(tokenizer.is_end_of_generation(2) && !tokenizer.is_end_of_generation(1));
    assert_eq!(tokenizer.encode("", Encode::default()), [1]);
    let keys = with(
        spm_keys(),
        "tokenizer.ggml.add_bos_token",
        Value::from(false),
    );
    let keys = with(keys, "tokenizer.ggml.add_eos_token", Value::from(true));
    let tokenizer = build(&keys).unwrap();
    assert_eq!(tokenizer.encode("", Encode::default()), [2]);
    let tokenizer = build(&bpe_keys()).unwrap();
    let end = tokenizer.encode("<|im_end|>", PARSED);
    assert_eq!(end.len(), 1);
    assert_eq!(tokenizer.end_of_generation(), end);
    assert!(tokenizer.is_control(end[0]) && !tokenizer.adds_bos());
}

#[test]
fn filling_in_needs_all_three_tokens() {
    let keys = with(
        bpe_keys(),
        "tokenizer.ggml.fim_pre_token_id",
        Value::from(3u32),
    );
    let keys = with(keys, "tokenizer.ggml.suffix_token_id", Value::from(4u32));
    assert_eq!(build(&keys).unwrap().infill(), None);
    let keys = with(keys, "tokenizer.ggml.fim_mid_token_id", Value::from(5u32));
    let [prefix, suffix, middle] = [3, 4, 5];
    let infill = super::Infill {
        prefix,
        suffix,
        middle,
    };
    assert_eq!(build(&keys).unwrap().infill(), Some(infill));
}

#[test]
fn control_tokens_add_nothing_to_a_text() {
    let tokenizer = build(&bpe_keys()).unwrap();
    let end = tokenizer.encode("<|im_end|>", PARSED)[0];
    let open = tokenizer.encode("<think>", PARSED)[0];
    assert_eq!(tokenizer.text_of(end), b"");
    assert_eq!(tokenizer.text_of(open), b"<think>");
    assert_eq!(tokenizer.text_of(u32::MAX), b"");
}

#[test]
fn control_text_is_plain_text_unless_asked_for() {
    for keys in [spm_keys(), bpe_keys()] {
        let tokenizer = build(&keys).unwrap();
        for text in ["x</s>y<|im_end|><unk>", "<s><s>"] {
            let plain = tokenizer.encode(text, PLAIN);
            assert!(
                plain.iter().all(|&id| !tokenizer.is_control(id)),
                "{text}: {plain:?}"
            );
            assert_eq!(tokenizer.decode(&plain), text.as_bytes());
        }
        // User-defined tokens are words of the vocabulary and always found.
        let word = if tokenizer.bos().is_some() {
            "<tool>"
        } else {
            "<think>"
        };
        let ids = tokenizer.encode(word, PLAIN);
        assert_eq!(ids.len(), 1, "{word}");
        assert!(tokenizer.is_special(ids[0]));
    }
    let tokenizer = build(&spm_keys()).unwrap();
    assert_eq!(tokenizer.encode("</s><tool></s", PARSED)[..2], [2, 3]);
}

#[test]
fn any_bytes_come_back() {
    let mut seed = 7u32;
    let mut byte = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    for keys in [spm_keys(), bpe_keys()] {
        let tokenizer = build(&keys).unwrap();
        for length in 0..200 {
            let mut bytes: Vec<u8> = (0..length).map(|_| byte()).collect();
            bytes.extend_from_slice("  a ▁ aa é🦙\u{301}  ".as_bytes());
            let tokens = tokenizer.encode_bytes(&bytes, PLAIN);
            assert_eq!(tokenizer.decode(&tokens), bytes);
            let mut stream = Detokenizer::new(&tokenizer);
            let mut text: String = tokens
                .iter()
                .map(|&id| stream.push(id).to_owned())
                .collect();
            text.push_str(stream.finish());
            assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn a_character_is_held_until_it_is_whole() {
    let tokenizer = build(&spm_keys()).unwrap();
    let mut stream = Detokenizer::new(&tokenizer);
    let byte = |b: u8| 4 + u32::from(b);
    let llama = "🦙".as_bytes();
    for &b in &llama[..3] {
        assert_eq!(stream.push(byte(b)), "");
    }
    assert_eq!(stream.push(byte(llama[3])), "🦙");
    // A second beginning proves the first one broken.
    assert_eq!(stream.push(byte(0xf0)), "");
    assert_eq!(stream.push(byte(0xc3)), "\u{fffd}");
    assert_eq!(stream.push(byte(b'x')), "\u{fffd}x");
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

#[test]
fn the_first_space_belongs_to_the_tokenizer() {
    let tokenizer = build(&spm_keys()).unwrap();
    let tokens = tokenizer.encode("a a", PLAIN);
    assert_eq!(
        tokens
            .iter()
            .map(|&id| tokenizer.piece(id).unwrap())
            .collect::<Vec<_>>(),
        [b" a", b" a"]
    );
    assert_eq!(tokenizer.decode(&tokens), b"a a");
    assert_eq!(Detokenizer::new(&tokenizer).push(tokens[0]), "a");
    assert_eq!(Detokenizer::continuing(&tokenizer).push(tokens[0]), " a");
}

/// Quadratic time would be hours.
#[test]
fn a_megabyte_of_one_letter_takes_no_quadratic_time() {
    let text = "a".repeat(1 << 20);
    for keys in [spm_keys(), bpe_keys()] {
        let tokenizer = build(&keys).unwrap();
        let tokens = tokenizer.encode(&text, PLAIN);
        assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
    }
}

#[test]
fn ids_that_are_no_tokens_give_nothing() {
    let tokenizer = build(&spm_keys()).unwrap();
    assert_eq!(tokenizer.piece(269), None);
    assert_eq!(tokenizer.decode(&[u32::MAX, 269]), b"");
    assert_eq!(Detokenizer::new(&tokenizer).push(u32::MAX), "");
}

/// A token ends the vocabulary for each text and type.
fn with_tokens(keys: Keys, more: &[(String, i32)]) -> Keys {
    let mut tokens = tokens_of(&keys);
    let n = tokens.len() as i32;
    let mut types: Vec<i32> = (0..n)
        .map(|i| {
            [2, 3, 3, 4]
                .get(i as usize)
                .copied()
                .unwrap_or(if i < 260 { 6 } else { 1 })
        })
        .collect();
    for (text, kind) in more {
        tokens.push(text.clone());
        types.push(*kind);
    }
    let scores: Vec<f32> = (0..tokens.len()).map(|i| -(i as f32)).collect();
    let keys = with(
        keys,
        "tokenizer.ggml.tokens",
        Value::Array(hearth_gguf::Array::String(tokens.iter().collect())),
    );
    let keys = with(keys, "tokenizer.ggml.token_type", Value::from(types));
    with(keys, "tokenizer.ggml.scores", Value::from(scores))
}

/// Compared at every position of the text, this token alone took 5·10¹¹ steps.
#[test]
fn a_control_token_of_half_a_megabyte_is_not_looked_for_at_every_letter() {
    let long = format!("{}b", "a".repeat(500_000));
    let tokenizer = build(&with_tokens(spm_keys(), &[(long, 3)])).unwrap();
    assert_eq!(
        tokenizer.notices(),
        ["1 special tokens have more than 1024 bytes and are not looked for in text"]
    );
    let text = "a".repeat(1 << 20);
    let tokens = tokenizer.encode(&text, PARSED);
    assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
}

#[test]
fn a_special_token_of_the_greatest_length_is_found() {
    let (longest, longer) = ("x".repeat(1024), "y".repeat(1025));
    let tokens = [(longest.clone(), 3), (longer.clone(), 3)];
    let tokenizer = build(&with_tokens(spm_keys(), &tokens)).unwrap();
    assert_eq!(tokenizer.encode(&longest, PARSED), [269]);
    assert!(!tokenizer.encode(&longer, PARSED).contains(&270));
}

/// All repetitions were walked at every position: 10¹¹ steps here.
#[test]
fn a_control_token_repeated_in_the_vocabulary_is_kept_once() {
    let mut tokens = vec![("a".to_owned(), 3); 100_000];
    tokens.push(("a".to_owned(), 4));
    tokens.push(("a".to_owned(), 4));
    let tokenizer = build(&with_tokens(spm_keys(), &tokens)).unwrap();
    let text = "a".repeat(1 << 20);
    assert_eq!(tokenizer.encode(&text, PLAIN), vec![100_269; 1 << 20]);
    assert_eq!(tokenizer.encode(&text, PARSED), vec![269; 1 << 20]);
}
