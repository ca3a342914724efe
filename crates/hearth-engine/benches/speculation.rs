//! What guessing ahead is worth: `cargo bench -p hearth-engine --bench speculation -- MODEL.gguf [DRAFT.gguf]`, and
//! `--only=CASE` for one of the answers.
//!
//! A model with random weights does not copy, and one that does would make every measurement a matter of taste.
//! So the answers are given ([`Generator::replay`]): every step, every draw and every decision of the controller is
//! that of a model which writes just this answer. Three of them: a source file of this project that
//! is written again with some lines changed, plain prose that goes on, and random tokens. Each is
//! written with guesses and without, in turn; medians and extremes of the ratio are printed.

use std::{num::NonZeroUsize, ops::ControlFlow, path::Path, sync::Arc};

use hearth_engine::{Answer, Generator, GeneratorOptions, Request, Speculate};
use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, Level};
use hearth_text::{Encode, Tokenizer};

const SOURCE: &str = include_str!("../src/generator.rs");
const PROSE: &str = include_str!("../../../docs/numerics.md");
/// Tokens of the prompt and of the answer.
const N_PROMPT: usize = 1200;
const N_ANSWER: usize = 200;
const N_ROUNDS: usize = 5;

/// A prompt and the answer that is written.
struct Case {
    name: &'static str,
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut paths = arguments.iter().filter(|a| !a.starts_with("--"));
    let Some(path) = paths.next() else {
        println!("no model given: nothing to measure");
        return;
    };
    let level = std::env::var("HEARTH_CPU").ok().and_then(|name| {
        let mut levels = Level::available().into_iter();
        levels.find(|level| level.to_string() == name)
    });
    let n_threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let kernels = Kernels::new(level.unwrap_or_else(Level::best), n_threads).expect("kernels");
    println!("{path}, {} threads, {}", n_threads, kernels.level());
    let open = |path: &str| Arc::new(Gguf::open(Path::new(path)).expect("a GGUF file"));
    let options = GeneratorOptions {
        n_ctx: Some(N_PROMPT + N_ANSWER + 1),
        ..GeneratorOptions::default()
    };
    let mut generator = Generator::load(open(path), kernels, options).expect("a model");
    let draft = paths.next();
    if let Some(draft) = draft {
        generator.add_draft(open(draft)).expect("a draft model");
        println!("draft {draft}");
    }
    let only = arguments.iter().find_map(|a| a.strip_prefix("--only="));
    let is_asked = |case: &Case| only.is_none_or(|only| case.name == only);
    for case in cases(generator.tokenizer()).into_iter().filter(is_asked) {
        measure(&mut generator, &case);
    }
}

fn cases(tokenizer: &Tokenizer) -> Vec<Case> {
    let encode = |text: &str| {
        let how = Encode {
            add_special: false,
            parse_special: false,
        };
        tokenizer.encode(text, how)
    };
    let source: String = SOURCE
        .lines()
        .skip(100)
        .map(|line| format!("{line}\n"))
        .collect();
    let mut prompt = encode(&source);
    prompt.truncate(N_PROMPT);
    let mut answer = encode(&edited(&source));
    answer.truncate(N_ANSWER);
    let prose = encode(PROSE);
    // A token that ends a text would end the answer.
    let mut random = random_tokens(N_PROMPT + 2 * N_ANSWER, tokenizer.n_vocab());
    random.retain(|&token| !tokenizer.is_end_of_generation(token));
    let cut = |tokens: &[u32]| {
        (
            tokens[..N_PROMPT].to_vec(),
            tokens[N_PROMPT..][..N_ANSWER].to_vec(),
        )
    };
    let (prose_prompt, prose_answer) = cut(&prose);
    let (random_prompt, random_answer) = cut(&random);
    vec![
        Case {
            name: "source",
            prompt,
            answer,
        },
        Case {
            name: "prose",
            prompt: prose_prompt,
            answer: prose_answer,
        },
        Case {
            name: "random",
            prompt: random_prompt,
            answer: random_answer,
        },
    ]
}

/// Every eighth line gets another name or a comment, every thirtieth goes, every thirtieth is new.
fn edited(source: &str) -> String {
    let mut out = String::new();
    for (index, line) in source.lines().enumerate() {
        match index % 30 {
            3 | 19 => out += &line.replace("self", "this").replace("let ", "let mut "),
            11 => out += &format!("{line} // as before"),
            27 => out += &format!("{line}\n    debug_assert!(index < {index});"),
            8 => continue,
            _ => out += line,
        }
        out.push('\n');
    }
    out
}

fn measure(generator: &mut Generator, case: &Case) {
    let mut write = |speculate| {
        let request = Request {
            speculate,
            ..Request::new(case.prompt.clone())
        };
        let mut go_on = |_: hearth_engine::Event<'_>| ControlFlow::Continue(());
        let answer = generator.replay(&request, &case.answer, &mut go_on);
        let answer = answer.expect("an answer");
        assert_eq!(answer.tokens, case.answer);
        answer
    };
    write(Speculate::Auto);
    let mut rounds: Vec<(Answer, Answer)> = (0..N_ROUNDS)
        .map(|_| (write(Speculate::Off), write(Speculate::Auto)))
        .collect();
    let ratio = |(plain, guessed): &(Answer, Answer)| {
        guessed.statistics.decode_tok_s() / plain.statistics.decode_tok_s()
    };
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let (plain, guessed) = &rounds[N_ROUNDS / 2];
    let statistics = &guessed.statistics;
    println!(
        "{:<7} plain {:6.1} t/s, guessed {:6.1} t/s: {:.3} ({:.3} to {:.3}); {} steps for {} tokens, text {}/{}, draft {}/{}",
        case.name,
        plain.statistics.decode_tok_s(),
        statistics.decode_tok_s(),
        ratio(&rounds[N_ROUNDS / 2]),
        ratio(&rounds[0]),
        ratio(&rounds[N_ROUNDS - 1]),
        statistics.n_steps,
        statistics.n_drawn,
        statistics.lookup.n_right,
        statistics.lookup.n_made,
        statistics.draft.n_right,
        statistics.draft.n_made,
    );
}

/// Token ids without a pattern, the same on every machine.
fn random_tokens(n: usize, n_vocab: usize) -> Vec<u32> {
    let mut state = 0x6865_6172_7468_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..n).map(|_| (next() % n_vocab) as u32).collect()
}
