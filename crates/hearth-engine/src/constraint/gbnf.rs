//! Grammars in llama.cpp's notation, GBNF.
//!
//! What has no recursion in it becomes one regular expression, so such a grammar is followed exactly. Where a rule
//! contains itself, the stretches between become terminals, and a terminal takes as much text as it can: what comes out
//! is always in the grammar, though a way through it that would need a shorter terminal is not taken.

mod parse;

use llguidance::derivre::RegexAst;

use super::{
    builder::{Builder, Node},
    error::ConstraintError,
};
use parse::Expr;

/// Name of the notation in errors.
pub(super) const LANGUAGE: &str = "GBNF grammar";

type Result<T> = std::result::Result<T, ConstraintError>;

/// How many rules may lead from one to the next without recursion.
const MAX_CHAIN: usize = 200;

/// Adds a grammar's rules; returns its `root`.
pub(super) fn build(builder: &mut Builder, text: &str) -> Result<Node> {
    let (mut rules, root) = parse::parse(text)?;
    for (index, rule) in rules.iter_mut().enumerate() {
        unroll(index, rule);
    }
    let n = rules.len();
    let mut compiler = Compiler {
        builder,
        is_recursive: find_recursive(&rules)?,
        rules,
        regexes: vec![None; n],
        nodes: vec![None; n],
    };
    compiler.rule(root)
}

/// A rule that ends in itself, as in `ws ::= (" " ws)?`, is a repetition.
fn unroll(index: usize, rule: &mut Expr) {
    if !mentions(rule, index) {
        return;
    }
    if let Some((loops, ends)) = split_tail(rule, index) {
        let again = Expr::Repeat(Box::new(Expr::Choice(loops)), 0, None);
        *rule = Expr::Sequence(vec![again, Expr::Choice(ends)]);
    }
}

fn mentions(expr: &Expr, index: usize) -> bool {
    match expr {
        Expr::Literal(_) | Expr::Class(_) => false,
        Expr::Rule(other) => *other == index,
        Expr::Sequence(parts) | Expr::Choice(parts) => {
            parts.iter().any(|part| mentions(part, index))
        }
        Expr::Repeat(inner, ..) => mentions(inner, index),
    }
}

/// What stands before the rule's own name at the end, and what ends it otherwise; `None` when it is not of that form.
fn split_tail(expr: &Expr, index: usize) -> Option<(Vec<Expr>, Vec<Expr>)> {
    if !mentions(expr, index) {
        return Some((Vec::new(), vec![expr.clone()]));
    }
    match expr {
        Expr::Rule(_) => Some((vec![Expr::Sequence(Vec::new())], Vec::new())),
        Expr::Choice(options) => {
            let (mut loops, mut ends) = (Vec::new(), Vec::new());
            for option in options {
                let (more_loops, more_ends) = split_tail(option, index)?;
                loops.extend(more_loops);
                ends.extend(more_ends);
            }
            Some((loops, ends))
        }
        Expr::Sequence(parts) => {
            let (last, before) = parts.split_last()?;
            if before.iter().any(|part| mentions(part, index)) {
                return None;
            }
            let (loops, ends) = split_tail(last, index)?;
            let lead = |tail| Expr::Sequence(before.iter().cloned().chain([tail]).collect());
            Some((
                loops.into_iter().map(lead).collect(),
                ends.into_iter().map(lead).collect(),
            ))
        }
        Expr::Repeat(inner, 0, Some(1)) => {
            let (loops, mut ends) = split_tail(inner, index)?;
            ends.push(Expr::Sequence(Vec::new()));
            Some((loops, ends))
        }
        _ => None,
    }
}

/// Which rules contain themselves or a rule that does.
fn find_recursive(rules: &[Expr]) -> Result<Vec<bool>> {
    let used: Vec<Vec<usize>> = rules.iter().map(rules_in).collect();
    let mut is_recursive = vec![true; rules.len()];
    for _ in 0..=MAX_CHAIN {
        let found: Vec<usize> = (0..rules.len())
            .filter(|&index| {
                is_recursive[index] && !used[index].iter().any(|&other| is_recursive[other])
            })
            .collect();
        if found.is_empty() {
            return Ok(is_recursive);
        }
        found
            .into_iter()
            .for_each(|index| is_recursive[index] = false);
    }
    let problem = format!("more than {MAX_CHAIN} rules lead from one to the next");
    Err(ConstraintError::grammar(LANGUAGE, problem))
}

fn rules_in(expr: &Expr) -> Vec<usize> {
    match expr {
        Expr::Literal(_) | Expr::Class(_) => Vec::new(),
        Expr::Rule(index) => vec![*index],
        Expr::Sequence(parts) | Expr::Choice(parts) => parts.iter().flat_map(rules_in).collect(),
        Expr::Repeat(inner, ..) => rules_in(inner),
    }
}

struct Compiler<'a> {
    builder: &'a mut Builder,
    rules: Vec<Expr>,
    is_recursive: Vec<bool>,
    regexes: Vec<Option<RegexAst>>,
    nodes: Vec<Option<Node>>,
}

impl Compiler<'_> {
    fn is_regular(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Literal(_) | Expr::Class(_) => true,
            Expr::Rule(index) => !self.is_recursive[*index],
            Expr::Sequence(parts) | Expr::Choice(parts) => {
                parts.iter().all(|part| self.is_regular(part))
            }
            Expr::Repeat(inner, ..) => self.is_regular(inner),
        }
    }

    fn rule(&mut self, index: usize) -> Result<Node> {
        if let Some(node) = self.nodes[index] {
            return Ok(node);
        }
        let node = self.builder.forward();
        self.nodes[index] = Some(node);
        let expr = self.rules[index].clone();
        let inner = self.node(&expr)?;
        self.builder.define(node, &[inner]);
        Ok(node)
    }

    fn node(&mut self, expr: &Expr) -> Result<Node> {
        if self.is_regular(expr) {
            let regex = self.regex(expr)?;
            return self.builder.terminal(regex);
        }
        match expr {
            Expr::Rule(index) => self.rule(*index),
            Expr::Sequence(parts) => self.sequence(parts),
            Expr::Choice(options) => self.choice(options),
            Expr::Repeat(inner, min, max) => {
                let node = self.node(inner)?;
                Ok(self
                    .builder
                    .repeat(node, *min as usize, max.map(|max| max as usize)))
            }
            Expr::Literal(_) | Expr::Class(_) => unreachable!("they are regular"),
        }
    }

    /// Neighbours without recursion become one terminal: within it nothing is lost to taking too much.
    fn sequence(&mut self, parts: &[Expr]) -> Result<Node> {
        let mut nodes = Vec::new();
        let mut rest = parts;
        while !rest.is_empty() {
            let n = rest
                .iter()
                .take_while(|part| self.is_regular(part))
                .count()
                .max(1);
            let (run, behind) = rest.split_at(n);
            nodes.push(match run {
                [only] => self.node(only)?,
                run => self.node(&Expr::Sequence(run.to_vec()))?,
            });
            rest = behind;
        }
        Ok(self.builder.join(&nodes))
    }

    fn choice(&mut self, options: &[Expr]) -> Result<Node> {
        let (regular, other): (Vec<&Expr>, Vec<&Expr>) =
            options.iter().partition(|option| self.is_regular(option));
        let mut nodes = Vec::new();
        for option in other {
            nodes.push(self.node(option)?);
        }
        if !regular.is_empty() {
            nodes.push(self.node(&Expr::Choice(regular.into_iter().cloned().collect()))?);
        }
        Ok(self.builder.choose(&nodes))
    }

    fn regex(&mut self, expr: &Expr) -> Result<RegexAst> {
        Ok(match expr {
            Expr::Literal(text) => RegexAst::Literal(text.clone()),
            Expr::Class(class) => RegexAst::Regex(class.clone()),
            Expr::Rule(index) => self.rule_regex(*index)?,
            Expr::Sequence(parts) => RegexAst::Concat(self.regex_list(parts)?),
            Expr::Choice(options) => RegexAst::Or(self.regex_list(options)?),
            Expr::Repeat(inner, min, max) => {
                let inner = self.regex(inner)?;
                RegexAst::Repeat(Box::new(inner), *min, max.unwrap_or(u32::MAX))
            }
        })
    }

    fn regex_list(&mut self, list: &[Expr]) -> Result<Vec<RegexAst>> {
        list.iter().map(|expr| self.regex(expr)).collect()
    }

    // Built once: rules that use rules that use rules would otherwise be written out a million times.
    fn rule_regex(&mut self, index: usize) -> Result<RegexAst> {
        if let Some(regex) = &self.regexes[index] {
            return Ok(regex.clone());
        }
        let expr = self.rules[index].clone();
        let regex = self.regex(&expr)?;
        let regex = self.builder.regex(&regex)?;
        self.regexes[index] = Some(regex.clone());
        Ok(regex)
    }
}
