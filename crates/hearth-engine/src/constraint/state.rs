//! The state of one answer under a grammar: which tokens may come next.
//!
//! An answer goes through phases. A thought is free text up to its closing tag, and cannot end the answer. The answer
//! itself follows the grammar from its first byte, or, where tools are merely offered, is free text until a call has
//! begun. Only the grammar's phases cost more than a glance at the vocabulary.

use std::{fmt, sync::Arc};

use llguidance::{Matcher, toktrie::SimpleVob};

use super::{
    error::ConstraintError, names::Names, scanner::Scanner, vocabulary::Vocabulary,
    writing::Writing,
};

/// Line feeds a model may write between its thought and the answer. Templates write two.
const MAX_GAP: usize = 2;

/// What an answer must be, compiled once and shared by all answers to a request.
pub(super) struct Plan {
    pub vocabulary: Arc<Vocabulary>,
    pub thinking: Option<super::Thinking>,
    pub answer: Answer,
    /// Objects may have names the schema does not list.
    pub guards_names: Option<Names>,
    /// Tokens that may go past the end of a marker that is looked for, and of these the ones that hold all of it.
    pub passing: [Vec<u32>; 2],
    /// Tokens of line feeds alone, when thinking may come first.
    pub newlines: Vec<u32>,
    /// Tokens whose first character that is no blank is `{`, when a call may begin so.
    pub objects: Vec<u32>,
    pub notices: Vec<String>,
    /// The grammar it was made from, written out.
    pub text: Arc<str>,
}

/// The part after the thought.
pub(super) enum Answer {
    /// The grammar from the first byte to the last.
    Whole(Box<Matcher>),
    /// Free text in which calls may begin.
    Calls(Vec<Call>),
    /// One grammar or the other, whichever the first bytes fit.
    Either(Box<[Alternative; 2]>),
}

/// One of two grammars, and whether its objects may have names the schema does not list.
pub(super) struct Alternative {
    pub matcher: Matcher,
    pub guards_names: Option<Names>,
}

/// A text that begins a call, and what has to come behind it.
pub(super) struct Call {
    pub trigger: String,
    pub matcher: Matcher,
    /// The trigger counts as the first character of the answer only, and the grammar begins with it.
    pub is_first: bool,
    /// Free text goes on behind the call.
    pub is_followed: bool,
}

impl Plan {
    fn calls(&self) -> &[Call] {
        match &self.answer {
            Answer::Whole(_) | Answer::Either(_) => &[],
            Answer::Calls(calls) => calls,
        }
    }

    /// The strings a scanner looks for in free text.
    fn markers(&self) -> impl Iterator<Item = &str> {
        let calls = self.calls().iter().filter(|call| !call.is_first);
        calls.map(|call| call.trigger.as_str())
    }

    /// The call that begins with the answer's first character.
    fn first_call(&self) -> Option<&Call> {
        self.calls().iter().find(|call| call.is_first)
    }

    fn close(&self) -> Option<&str> {
        self.thinking.as_ref().map(|tags| tags.close.as_str())
    }

    /// Finds the tokens that could carry text past a marker; to be called once everything else is set.
    pub(super) fn list_tokens(&mut self) {
        let scanner = Scanner::new(self.markers().chain(self.close()));
        let vocabulary = &self.vocabulary;
        let all = 0..vocabulary.len() as u32;
        let passing: Vec<u32> = all
            .clone()
            .filter(|&token| scanner.can_pass(vocabulary.text(token)))
            .collect();
        let holds = |token: &u32| scanner.look(vocabulary.text(*token)).is_some();
        let holding = passing.iter().copied().filter(holds).collect();
        self.passing = [passing, holding];
        if self.thinking.is_some() {
            self.newlines = all
                .clone()
                .filter(|&token| is_newlines(vocabulary.text(token)))
                .collect();
        }
        if self.first_call().is_some() {
            self.objects = all
                .filter(|&token| vocabulary.text(token).trim_ascii_start().starts_with(b"{"))
                .collect();
        }
    }
}

/// The state of one answer that follows a [`Grammar`](super::Grammar).
///
/// It says which tokens may come next and is told which one did. What it says depends on the grammar and the tokens
/// alone: there is no clock in it, and a grammar that becomes too complex is an error, never free text. Clones are
/// independent.
pub struct Constraint {
    plan: Arc<Plan>,
    phase: Phase,
}

enum Phase {
    /// Nothing was written yet.
    Start,
    /// In a thought, looking for its end.
    Thinking(Scanner),
    /// In free text, looking for the beginning of a call.
    Free(Free),
    /// Under the grammar.
    Writing(Box<Writing>),
    /// Over.
    Ended,
}

#[derive(Clone)]
struct Free {
    scanner: Scanner,
    /// How much of the tag that opens a thought stands at the very beginning.
    opening: Option<usize>,
    /// Nothing but blanks was written yet, and what a call needs that begins here.
    first: Option<Box<Writing>>,
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        let phase = match &self.phase {
            Phase::Start => Phase::Start,
            Phase::Thinking(scanner) => Phase::Thinking(scanner.clone()),
            Phase::Free(free) => Phase::Free(free.clone()),
            Phase::Writing(writing) => Phase::Writing(writing.clone()),
            Phase::Ended => Phase::Ended,
        };
        Constraint {
            plan: Arc::clone(&self.plan),
            phase,
        }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Start => "start",
            Phase::Thinking(_) => "thinking",
            Phase::Free(_) => "free",
            Phase::Writing(_) => "writing",
            Phase::Ended => "ended",
        };
        f.debug_struct("Constraint")
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}

impl Constraint {
    pub(super) fn new(plan: Plan) -> Self {
        let phase = match &plan.thinking {
            Some(tags) if tags.is_open => Phase::Thinking(Scanner::new([tags.close.as_str()])),
            _ => Phase::Start,
        };
        Constraint {
            plan: Arc::new(plan),
            phase,
        }
    }

    /// What could not be enforced although it was not asked for strictly, for the client to know.
    pub fn notices(&self) -> &[String] {
        &self.plan.notices
    }

    /// Whether both hold an answer to the same form.
    pub(crate) fn has_grammar_of(&self, other: &Constraint) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan) || self.plan.text == other.plan.text
    }

    /// Sets the logits of tokens that may not come next to minus infinity.
    ///
    /// # Errors
    /// The grammar became too complex to go on.
    pub(crate) fn apply(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
        self.begin();
        let plan = &*self.plan;
        match &mut self.phase {
            Phase::Start => unreachable!("the phase was begun"),
            Phase::Thinking(scanner) => {
                plan.vocabulary.ends().iter().for_each(forbid(logits));
                plan.forbid_passing(scanner, logits, is_newlines);
            }
            Phase::Free(free) => {
                plan.forbid_passing(&free.scanner, logits, <[u8]>::is_empty);
                plan.forbid_objects(free, logits)?;
            }
            Phase::Writing(writing) => keep(&writing.mask(plan)?, logits),
            Phase::Ended => keep(&plan.end_mask(), logits),
        }
        Ok(())
    }

    /// Goes on behind a token.
    ///
    /// # Errors
    /// The token was not allowed.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.begin();
        let plan = Arc::clone(&self.plan);
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        if plan.vocabulary.is_end(token) {
            return match phase {
                Phase::Writing(mut writing) => writing.end(),
                Phase::Thinking(_) => Err(broken("it ended within a thought")),
                _ => Ok(()),
            };
        }
        let text = plan.vocabulary.text(token);
        self.phase = match phase {
            Phase::Thinking(scanner) => plan.think(scanner, text)?,
            Phase::Free(free) => plan.write_freely(free, token, text)?,
            Phase::Writing(writing) => plan.write(writing, token, text)?,
            Phase::Start | Phase::Ended => return Err(broken("it goes on behind its end")),
        };
        Ok(())
    }

    /// Whether nothing but the end can follow.
    pub(crate) fn must_end(&self) -> bool {
        match &self.phase {
            Phase::Writing(writing) => {
                let may_wait = writing.gap.is_some_and(|gap| gap > 0) || writing.opening.is_some();
                writing.matcher.is_stopped() && !may_wait && writing.other.is_none()
            }
            Phase::Ended => true,
            _ => false,
        }
    }

    fn begin(&mut self) {
        if matches!(self.phase, Phase::Start) {
            let opening = self.plan.thinking.as_ref().map(|_| 0);
            self.phase = self.plan.answer(0, opening);
        }
    }
}

impl Plan {
    /// The phase in which the answer begins.
    fn answer(&self, gap: usize, opening: Option<usize>) -> Phase {
        match &self.answer {
            Answer::Calls(_) => Phase::Free(Free {
                scanner: Scanner::new(self.markers()),
                opening,
                first: self
                    .first_call()
                    .map(|call| self.begin(&call.matcher, call.is_followed)),
            }),
            Answer::Whole(matcher) => {
                let mut writing = self.begin(matcher, false);
                (writing.gap, writing.opening) = (Some(gap), opening);
                Phase::Writing(writing)
            }
            Answer::Either(both) => {
                let [mut writing, other] = both.each_ref().map(|one| {
                    let mut writing = self.begin(&one.matcher, false);
                    writing.names = one.guards_names.clone();
                    writing
                });
                (writing.gap, writing.opening) = (Some(gap), opening);
                writing.other = Some(other);
                Phase::Writing(writing)
            }
        }
    }

    fn begin(&self, matcher: &Matcher, is_followed: bool) -> Box<Writing> {
        Box::new(Writing {
            matcher: matcher.deep_clone(),
            names: self.guards_names.clone(),
            gap: None,
            opening: None,
            is_followed,
            other: None,
        })
    }

    /// Forbids tokens that carry on behind a marker with what `may_follow` it does not take: what follows belongs to
    /// the next phase, which has to see it from its first byte.
    fn forbid_passing(
        &self,
        scanner: &Scanner,
        logits: &mut [f32],
        may_follow: impl Fn(&[u8]) -> bool,
    ) {
        let passes = |token: &&u32| {
            let text = self.vocabulary.text(**token);
            scanner.look(text).is_some_and(|found| {
                found.n_behind > 0 && !may_follow(&text[text.len() - found.n_behind..])
            })
        };
        let tokens = &self.passing[usize::from(!scanner.is_begun())];
        tokens.iter().filter(passes).for_each(forbid(logits));
    }

    /// Where `{` begins a call, what a token has behind it must fit the call.
    fn forbid_objects(&self, free: &mut Free, logits: &mut [f32]) -> Result<(), ConstraintError> {
        let Some(first) = &mut free.first else {
            return Ok(());
        };
        let mask = first.grammar_mask(self)?;
        let is_call =
            |token: u32| mask.is_allowed(token) && self.vocabulary.text(token).starts_with(b"{");
        let stray = self.objects.iter().filter(|&&token| !is_call(token));
        stray.for_each(forbid(logits));
        Ok(())
    }

    fn end_mask(&self) -> SimpleVob {
        let mut mask = SimpleVob::alloc(self.vocabulary.len());
        for &token in self.vocabulary.ends() {
            mask.allow_token(token);
        }
        mask
    }

    fn think(&self, mut scanner: Scanner, text: &[u8]) -> Result<Phase, ConstraintError> {
        let Some(found) = scanner.push(text) else {
            return Ok(Phase::Thinking(scanner));
        };
        let behind = &text[text.len() - found.n_behind..];
        if !is_blank(behind) {
            return Err(broken("a token goes past the end of the thought"));
        }
        Ok(self.answer(MAX_GAP.saturating_sub(behind.len()), None))
    }

    fn write_freely(
        &self,
        mut free: Free,
        token: u32,
        text: &[u8],
    ) -> Result<Phase, ConstraintError> {
        match free.opening.map(|n_open| self.open(n_open, text)) {
            Some(Opening::Done(behind)) => return self.enter_thought(behind),
            Some(Opening::Part(n_open)) => free.opening = Some(n_open),
            Some(Opening::No) | None => free.opening = None,
        }
        let begins_object = text.starts_with(b"{");
        let first = free.first.take_if(|_| !text.is_empty() && !is_blank(text));
        if let Some(mut writing) = first.filter(|_| begins_object) {
            writing.consume(token, text)?;
            return Ok(Phase::Writing(writing));
        }
        let Some(found) = free.scanner.push(text) else {
            return Ok(Phase::Free(free));
        };
        if found.n_behind > 0 {
            return Err(broken("a token goes past the beginning of a call"));
        }
        let call = self
            .calls()
            .iter()
            .filter(|call| !call.is_first)
            .nth(found.marker);
        let call = call.ok_or_else(|| broken("there are no calls"))?;
        Ok(Phase::Writing(self.begin(&call.matcher, call.is_followed)))
    }

    fn write(
        &self,
        mut writing: Box<Writing>,
        token: u32,
        text: &[u8],
    ) -> Result<Phase, ConstraintError> {
        if writing.takes_as_gap(token, text) {
            return Ok(Phase::Writing(writing));
        }
        match writing.opening.map(|n_open| self.open(n_open, text)) {
            Some(Opening::Done(behind)) => return self.enter_thought(behind),
            Some(Opening::Part(n_open)) => {
                // The grammar may begin with the same bytes: both ways stay open until one of them fails.
                writing.opening = Some(n_open);
                let _ = writing.consume(token, text);
                return Ok(Phase::Writing(writing));
            }
            Some(Opening::No) | None => {}
        }
        (writing.gap, writing.opening) = (None, None);
        writing.consume(token, text)?;
        if writing.is_followed && writing.matcher.is_stopped() {
            return Ok(Phase::Free(Free {
                scanner: Scanner::new(self.markers()),
                opening: None,
                first: None,
            }));
        }
        Ok(Phase::Writing(writing))
    }

    fn enter_thought(&self, behind: &[u8]) -> Result<Phase, ConstraintError> {
        let close = self.close().unwrap_or_default();
        self.think(Scanner::new([close]), behind)
    }

    /// How `text` goes on in the tag that opens a thought.
    pub(super) fn open<'a>(&self, n_open: usize, text: &'a [u8]) -> Opening<'a> {
        let tag = self.thinking.as_ref().map_or("", |tags| tags.open.as_str());
        let rest = &tag.as_bytes()[n_open..];
        if rest.is_empty() || text.is_empty() {
            return Opening::No;
        }
        match text.strip_prefix(rest) {
            Some(behind) => Opening::Done(behind),
            None if rest.starts_with(text) => Opening::Part(n_open + text.len()),
            None => Opening::No,
        }
    }
}

pub(super) enum Opening<'a> {
    No,
    Part(usize),
    Done(&'a [u8]),
}

fn keep(mask: &SimpleVob, logits: &mut [f32]) {
    let words = mask.as_slice();
    for (index, chunk) in logits.chunks_mut(32).enumerate() {
        let word = words.get(index).copied().unwrap_or(0);
        if word == u32::MAX {
            continue;
        }
        for (bit, logit) in chunk.iter_mut().enumerate() {
            if word & (1 << bit) == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn forbid(logits: &mut [f32]) -> impl FnMut(&u32) + '_ {
    |&token| {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

pub(super) fn is_newlines(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| byte == b'\n')
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

pub(super) fn broken(problem: &str) -> ConstraintError {
    ConstraintError::broken(problem)
}
