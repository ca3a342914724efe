//! From a grammar to a constraint.

use std::sync::{Arc, OnceLock};

use hearth_text::Tokenizer;
use llguidance::{
    Matcher,
    api::{GrammarInit, TopLevelGrammar},
    derivre::RegexAst,
};
use serde_json::Value;

use super::{
    AnswerGrammar, Constraint, ConstraintError, Grammar, Thinking,
    builder::Builder,
    cache::Cache,
    gbnf,
    json::{self, FreeNames},
    names::Names,
    schema::{self, PatternError},
    state::{Alternative, Answer, Plan},
    tools::{self, Calls, Compiled},
    vocabulary::Vocabulary,
};

type Result<T> = std::result::Result<T, ConstraintError>;

const SCHEMA: &str = "JSON schema";
const REGEX: &str = "regular expression";
const LARK: &str = "Lark grammar";
const CHOICE: &str = "list of choices";
const EITHER: &str = "pair of grammars";

/// The most texts to choose between, and the most bytes of them together.
const MAX_CHOICES: usize = 10_000;
const MAX_CHOICE_BYTES: usize = 256 * 1024;
/// The most text of a Lark grammar.
const MAX_LARK_BYTES: usize = 64 * 1024;
/// How deep its groups may be nested; brackets within expressions and strings count too.
const MAX_LARK_DEPTH: usize = 100;

/// Compiles grammars for one model's vocabulary.
///
/// The vocabulary is taken in with the first grammar, or [ahead of it](Self::prepare), which takes a moment. Constraints
/// are kept for grammars that come again.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    vocabulary: OnceLock<Result<Arc<Vocabulary>>>,
    cache: Cache,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For a model's tokenizer.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Self {
        Grammars {
            tokenizer: Arc::clone(tokenizer),
            vocabulary: OnceLock::new(),
            cache: Cache::default(),
        }
    }

    /// Takes in the vocabulary, so that no request has to wait for it; for a thread that has nothing else to do.
    pub fn prepare(&self) {
        // What is wrong with a vocabulary is said to who asks for a constraint.
        let _ = self.vocabulary();
    }

    /// Compiles a grammar. Takes milliseconds, for large ones more: not for a thread that must answer others.
    ///
    /// # Errors
    /// The grammar is none, nothing satisfies it, or something in it cannot be enforced.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        // All of the grammar is in it, in the order it was written: two schemas with their properties in another order
        // are equal as values, and not as grammars.
        let text: Arc<str> = format!("{grammar:?}").into();
        if let Some(constraint) = self.cache.get(&text) {
            return Ok(constraint);
        }
        let constraint = self.compile_anew(grammar, text.clone())?;
        self.cache.put(text, constraint.clone());
        Ok(constraint)
    }

    fn compile_anew(&self, grammar: &Grammar, text: Arc<str>) -> Result<Constraint> {
        let vocabulary = self.vocabulary()?;
        let compiled = answer(&vocabulary, &grammar.answer)?;
        let mut plan = Plan {
            vocabulary,
            thinking: grammar.thinking.clone().filter(Thinking::is_marked),
            answer: compiled.answer,
            guards_names: compiled.guards_names,
            passing: [Vec::new(), Vec::new()],
            newlines: Vec::new(),
            objects: Vec::new(),
            notices: compiled.notices,
            text,
        };
        plan.list_tokens();
        Ok(Constraint::new(plan))
    }

    fn vocabulary(&self) -> Result<Arc<Vocabulary>> {
        let build = || Vocabulary::new(&self.tokenizer).map(Arc::new);
        self.vocabulary.get_or_init(build).clone()
    }
}

impl Thinking {
    fn is_marked(&self) -> bool {
        !self.open.is_empty() && !self.close.is_empty()
    }
}

fn answer(vocabulary: &Vocabulary, answer: &AnswerGrammar) -> Result<Compiled> {
    let matcher = match answer {
        AnswerGrammar::JsonObject => return json_answer(vocabulary, None),
        AnswerGrammar::JsonSchema(schema) => return json_answer(vocabulary, Some(schema)),
        AnswerGrammar::Tools {
            format,
            tools,
            choice,
            is_parallel,
        } => {
            let calls = Calls {
                format: *format,
                tools,
                choice: *choice,
                is_parallel: *is_parallel,
            };
            return tools::compile(vocabulary, &calls);
        }
        AnswerGrammar::Either(both) => return either(vocabulary, both),
        AnswerGrammar::Regex(pattern) => regex(vocabulary, pattern)?,
        AnswerGrammar::Lark(text) => lark(vocabulary, text)?,
        AnswerGrammar::Gbnf(text) => {
            let mut builder = Builder::new(gbnf::LANGUAGE)?;
            let root = gbnf::build(&mut builder, text)?;
            ready(vocabulary, gbnf::LANGUAGE, builder.finish(root)?)?
        }
        AnswerGrammar::Choice(texts) => choice(vocabulary, texts)?,
    };
    Ok(whole(matcher, None))
}

/// Two grammars that are each a whole answer.
fn either(vocabulary: &Vocabulary, both: &[AnswerGrammar; 2]) -> Result<Compiled> {
    let mut notices = Vec::new();
    let mut one = |grammar| {
        let compiled = answer(vocabulary, grammar)?;
        notices.extend(compiled.notices);
        match compiled.answer {
            Answer::Whole(matcher) => Ok(Alternative {
                matcher: *matcher,
                guards_names: compiled.guards_names,
            }),
            Answer::Calls(_) | Answer::Either(_) => Err(ConstraintError::grammar(
                EITHER,
                "each of the two must be a whole answer",
            )),
        }
    };
    let answer = Answer::Either(Box::new([one(&both[0])?, one(&both[1])?]));
    Ok(Compiled {
        answer,
        guards_names: None,
        notices,
    })
}

fn whole(matcher: Matcher, guards_names: Option<Names>) -> Compiled {
    Compiled {
        answer: Answer::Whole(Box::new(matcher)),
        guards_names,
        notices: Vec::new(),
    }
}

fn json_answer(vocabulary: &Vocabulary, schema: Option<&Value>) -> Result<Compiled> {
    let mut builder = Builder::new(SCHEMA)?;
    let (root, free_names) = match schema {
        None => (json::free_object(&mut builder)?, FreeNames::Open),
        Some(schema) => json::emit(&mut builder, &schema::read(schema, false)?)?,
    };
    let matcher = ready(vocabulary, SCHEMA, builder.finish(root)?)?;
    Ok(whole(matcher, Names::guard(free_names, true)))
}

fn regex(vocabulary: &Vocabulary, pattern: &str) -> Result<Matcher> {
    let regex = schema::whole_pattern(pattern).map_err(|error| match error {
        PatternError::Bad(problem) => ConstraintError::grammar(REGEX, problem),
        PatternError::Unsupported(what) => {
            ConstraintError::grammar(REGEX, format!("{what} is not supported"))
        }
    })?;
    terminal(vocabulary, REGEX, regex)
}

fn choice(vocabulary: &Vocabulary, texts: &[String]) -> Result<Matcher> {
    let n_bytes = texts.iter().map(String::len).sum();
    let checks = [
        ("number of choices", texts.len(), MAX_CHOICES),
        ("size of the choices in bytes", n_bytes, MAX_CHOICE_BYTES),
    ];
    if let Some((what, n, limit)) = checks.into_iter().find(|(_, n, limit)| n > limit) {
        return Err(ConstraintError::Limit { what, n, limit });
    }
    let texts = texts.iter().cloned().map(RegexAst::Literal).collect();
    terminal(vocabulary, CHOICE, RegexAst::Or(texts))
}

fn terminal(vocabulary: &Vocabulary, language: &'static str, regex: RegexAst) -> Result<Matcher> {
    let mut builder = Builder::new(language)?;
    let root = builder.terminal(regex)?;
    ready(vocabulary, language, builder.finish(root)?)
}

fn lark(vocabulary: &Vocabulary, text: &str) -> Result<Matcher> {
    if text.len() > MAX_LARK_BYTES {
        return Err(ConstraintError::Limit {
            what: "size of the grammar in bytes",
            n: text.len(),
            limit: MAX_LARK_BYTES,
        });
    }
    check_nesting(text)?;
    // What these do is done by the caller of the parser, or is not held to our limits.
    for word in [
        "%json",
        "stop=",
        "stop_capture=",
        "temperature=",
        "capture=",
    ] {
        let squeezed: String = text.split_whitespace().collect();
        if squeezed.contains(word) {
            let word = word.trim_end_matches('=');
            return Err(ConstraintError::grammar(
                LARK,
                format!("{word:?} is not supported"),
            ));
        }
    }
    ready(
        vocabulary,
        LARK,
        GrammarInit::Serialized(TopLevelGrammar::from_lark(text.to_owned())),
    )
}

/// The library reads groups by recursion.
fn check_nesting(text: &str) -> Result<()> {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    match deepest > MAX_LARK_DEPTH {
        true => Err(ConstraintError::Limit {
            what: "depth of the grammar's groups",
            n: deepest,
            limit: MAX_LARK_DEPTH,
        }),
        false => Ok(()),
    }
}

/// A parser that has something to expect: that there is no first token is found here and not in the answer.
pub(super) fn ready(
    vocabulary: &Vocabulary,
    language: &'static str,
    grammar: GrammarInit,
) -> Result<Matcher> {
    let matcher = vocabulary.matcher(language, grammar)?;
    match matcher.deep_clone().compute_mask_or_eos() {
        Ok(mask) if !mask.is_zero() => Ok(matcher),
        // How the parser says that no token fits.
        Err(error) if !error.to_string().starts_with("NoExtensionBias") => {
            Err(ConstraintError::grammar(language, error))
        }
        _ => Err(ConstraintError::grammar(language, "nothing satisfies it")),
    }
}
