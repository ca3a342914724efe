//! Constraints that were compiled lately: an agent sends the same tools with every request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Constraint;

/// The most constraints that are kept, and the most text of the grammars they were made from.
const MAX_ENTRIES: usize = 16;
const MAX_BYTES: usize = 512 * 1024;

/// Constraints at their beginning by the text of their grammars, the one used last in front.
///
/// What is taken out is what compiling would give: an answer begins with a copy that shares nothing with others.
#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<VecDeque<(Arc<str>, Constraint)>>,
}

impl Cache {
    /// The constraint of this grammar.
    pub(super) fn get(&self, text: &str) -> Option<Constraint> {
        let mut entries = self.lock();
        let at = entries.iter().position(|(other, _)| **other == *text)?;
        let entry = entries.remove(at)?;
        let constraint = entry.1.clone();
        entries.push_front(entry);
        Some(constraint)
    }

    /// Keeps one; those that were not used for longest make room.
    pub(super) fn put(&self, text: Arc<str>, constraint: Constraint) {
        let mut entries = self.lock();
        entries.retain(|(other, _)| *other != text);
        entries.push_front((text, constraint));
        while entries.len() > MAX_ENTRIES || n_bytes(&entries) > MAX_BYTES {
            entries.pop_back();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Arc<str>, Constraint)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn n_bytes(entries: &VecDeque<(Arc<str>, Constraint)>) -> usize {
    entries.iter().map(|(text, _)| text.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn constraint() -> Constraint {
        let answer = AnswerGrammar::Choice(vec!["a".to_owned()]);
        let grammar = Grammar {
            thinking: None,
            answer,
        };
        let grammars = super::super::tests::grammars();
        grammars.compile(&grammar).expect("it compiles")
    }

    #[test]
    fn few_are_kept_and_those_used_last() {
        let (cache, constraint) = (Cache::default(), constraint());
        for n in 0..MAX_ENTRIES + 3 {
            cache.put(format!("{n}").into(), constraint.clone());
            assert!(cache.get("0").is_some(), "it is used all the time");
        }
        assert!(cache.get("1").is_none() && cache.get("2").is_none());
        assert!(cache.get("5").is_some());
        cache.put("x".repeat(MAX_BYTES - 3).into(), constraint.clone());
        assert_eq!(cache.lock().len(), 3);
        cache.put("y".repeat(MAX_BYTES + 1).into(), constraint);
        assert_eq!(cache.lock().len(), 0);
    }
}
