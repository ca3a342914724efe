//! An answer, or a part of one, under a grammar.

use llguidance::{Matcher, toktrie::SimpleVob};

use super::{
    error::ConstraintError,
    names::Names,
    state::{Opening, Plan, broken, is_newlines},
};

/// Masks that may be computed before one token to see whether a name is left.
const MAX_LOOKS: usize = 64;

pub(super) struct Writing {
    pub matcher: Matcher,
    pub names: Option<Names>,
    /// Line feeds that may still come before the first byte; `None` behind it.
    pub gap: Option<usize>,
    /// How much of the tag that opens a thought has been written in place of the answer.
    pub opening: Option<usize>,
    /// Free text goes on behind it.
    pub is_followed: bool,
    /// What else the answer may be, as long as all that is written fits both.
    pub other: Option<Box<Writing>>,
}

impl Clone for Writing {
    fn clone(&self) -> Self {
        Writing {
            // A shallow clone shares the lexer's memory, and with it the steps that count against its limits.
            matcher: self.matcher.deep_clone(),
            names: self.names.clone(),
            other: self.other.clone(),
            ..*self
        }
    }
}

impl Writing {
    pub(super) fn mask(&mut self, plan: &Plan) -> Result<SimpleVob, ConstraintError> {
        let mut mask = match self.matcher.is_error() && self.opening.is_some() {
            true => SimpleVob::alloc(plan.vocabulary.len()),
            false => self.grammar_mask(plan)?,
        };
        if let Some(n_open) = self.opening {
            for token in 0..plan.vocabulary.len() as u32 {
                if !matches!(plan.open(n_open, plan.vocabulary.text(token)), Opening::No) {
                    mask.allow_token(token);
                }
            }
        }
        for &token in &plan.newlines {
            if plan.vocabulary.text(token).len() <= self.gap.unwrap_or(0) {
                mask.allow_token(token);
            }
        }
        Ok(mask)
    }

    /// Line feeds behind a thought are no part of the answer: those that may come, and those that were written in the
    /// model's place.
    pub(super) fn takes_as_gap(&mut self, token: u32, text: &[u8]) -> bool {
        let Some(gap) = self.gap.filter(|_| is_newlines(text)) else {
            return false;
        };
        let is_answer =
            text.len() > gap && self.matcher.validate_tokens(&[token]).is_ok_and(|n| n == 1);
        if !is_answer {
            self.gap = Some(gap.saturating_sub(text.len()));
        }
        !is_answer
    }

    pub(super) fn grammar_mask(&mut self, plan: &Plan) -> Result<SimpleVob, ConstraintError> {
        let mut mask = self.own_mask(plan)?;
        if let Some(other) = &mut self.other {
            mask.or(&other.own_mask(plan)?);
        }
        Ok(mask)
    }

    fn own_mask(&mut self, plan: &Plan) -> Result<SimpleVob, ConstraintError> {
        let mut mask = self
            .matcher
            .compute_mask_or_eos()
            .map_err(ConstraintError::broken)?;
        // The parser knows the ends one by one; the answer may end with any of them or with none.
        let ends = plan.vocabulary.ends();
        if ends.iter().any(|&token| mask.is_allowed(token)) {
            ends.iter().for_each(|&token| mask.allow_token(token));
        }
        self.forbid_names(plan, &mut mask);
        self.forbid_dead_ends(plan, &mut mask)?;
        if mask.is_zero() {
            return Err(broken("nothing may follow"));
        }
        Ok(mask)
    }

    fn forbid_names(&self, plan: &Plan, mask: &mut SimpleVob) {
        let Some(names) = &self.names else { return };
        let Some(n_quotes) = names.n_quotes_at_risk() else {
            return;
        };
        for &token in plan.vocabulary.quoting(n_quotes) {
            if mask.is_allowed(token) && !names.allows(plan.vocabulary.text(token)) {
                mask.disallow_token(token);
            }
        }
    }

    /// Where names have to match something, forbids the tokens behind which only names that are taken are left.
    fn forbid_dead_ends(
        &mut self,
        plan: &Plan,
        mask: &mut SimpleVob,
    ) -> Result<(), ConstraintError> {
        let is_limited = |names: &Names| names.is_limited && names.n_quotes_at_risk().is_some();
        let Some(names) = self.names.clone().filter(is_limited) else {
            return Ok(());
        };
        let mut n_left = MAX_LOOKS;
        for token in mask.to_list() {
            if !names.may_be_at_risk_behind(plan.vocabulary.text(token)) {
                continue;
            }
            if let Some(next) = after(&names, plan, token)
                && next.is_at_risk()
                && !self.has_name(&next, plan, token, &mut n_left)?
            {
                mask.disallow_token(token);
            }
        }
        Ok(())
    }

    /// Whether a name that is not taken can be written behind a token. Looks ahead; without looks left it says yes.
    fn has_name(
        &mut self,
        names: &Names,
        plan: &Plan,
        token: u32,
        n_left: &mut usize,
    ) -> Result<bool, ConstraintError> {
        if *n_left == 0 {
            return Ok(true);
        }
        *n_left -= 1;
        self.matcher
            .consume_token(token)
            .map_err(ConstraintError::broken)?;
        let allowed = self
            .matcher
            .compute_mask_or_eos()
            .map_err(ConstraintError::broken)?;
        let next: Vec<(u32, Names)> = allowed
            .to_list()
            .into_iter()
            .filter_map(|token| Some((token, after(names, plan, token)?)))
            .collect();
        let mut is_alive = next.iter().any(|(_, names)| !names.is_at_risk());
        for (token, names) in &next {
            is_alive = is_alive || self.has_name(names, plan, *token, n_left)?;
        }
        self.matcher.rollback(1).map_err(ConstraintError::broken)?;
        Ok(is_alive)
    }

    /// Goes on behind a token; of two grammars the one that fits remains.
    pub(super) fn consume(&mut self, token: u32, text: &[u8]) -> Result<(), ConstraintError> {
        let own = self.consume_own(token, text);
        let Some(mut other) = self.other.take() else {
            return own;
        };
        match (own, other.consume_own(token, text)) {
            (Ok(()), Ok(())) => self.other = Some(other),
            (Ok(()), Err(_)) => {}
            (Err(_), Ok(())) => (self.matcher, self.names) = (other.matcher, other.names),
            (Err(error), Err(_)) => return Err(error),
        }
        Ok(())
    }

    fn consume_own(&mut self, token: u32, text: &[u8]) -> Result<(), ConstraintError> {
        self.matcher
            .consume_token(token)
            .map_err(ConstraintError::broken)?;
        match self.names.as_mut().is_none_or(|names| names.push(text)) {
            true => Ok(()),
            false => Err(broken("an object has a name twice")),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), ConstraintError> {
        let may_end = self.matcher.is_stopped() && !self.matcher.is_error()
            || self
                .matcher
                .is_accepting()
                .map_err(ConstraintError::broken)?;
        match may_end {
            true => Ok(()),
            false => Err(broken("it ended too early")),
        }
    }
}

/// The names behind a token; `None` when it completes one that is taken.
fn after(names: &Names, plan: &Plan, token: u32) -> Option<Names> {
    let mut names = names.clone();
    names.push(plan.vocabulary.text(token)).then_some(names)
}
