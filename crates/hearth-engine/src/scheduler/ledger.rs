//! What each owner has had of the machine.
//!
//! Whoever had least, by weight, is next. An owner who comes back after a pause is not owed the time away: the account starts
//! at the level of the least served of those present.

use std::collections::HashMap;
use std::sync::Arc;

use crate::job::Owner;

/// Accounts of owners without work that are remembered at most.
const MAX_IDLE: usize = 1024;

#[derive(Clone, Debug)]
struct Account {
    /// Seconds of the machine, divided by the weight.
    used: f64,
    weight: f64,
    n_jobs: usize,
}

/// All accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    accounts: HashMap<Arc<str>, Account>,
}

impl Ledger {
    /// Notes a job of `owner`.
    pub(crate) fn open(&mut self, owner: &Owner) {
        let floor = self.floor();
        let account = self.accounts.entry(owner.name.clone()).or_insert(Account {
            used: 0.0,
            weight: 1.0,
            n_jobs: 0,
        });
        if account.n_jobs == 0 {
            account.used = account.used.max(floor.unwrap_or(0.0));
        }
        account.weight = f64::from(owner.weight.max(1));
        account.n_jobs += 1;
    }

    /// Notes that a job of `owner` is gone.
    pub(crate) fn close(&mut self, owner: &Owner) {
        if let Some(account) = self.accounts.get_mut(&owner.name) {
            account.n_jobs -= 1;
        }
        // An account at or below everybody else's says nothing that opening it again would not.
        let floor = self.floor().unwrap_or(f64::INFINITY);
        self.accounts
            .retain(|_, account| account.n_jobs > 0 || account.used > floor);
        if self.accounts.len() > MAX_IDLE {
            self.accounts.retain(|_, account| account.n_jobs > 0);
        }
    }

    /// Notes that `owner` used the machine for some seconds.
    pub(crate) fn charge(&mut self, owner: &Owner, seconds: f64) {
        if let Some(account) = self.accounts.get_mut(&owner.name) {
            account.used += seconds / account.weight;
        }
    }

    /// What `owner` has had.
    pub(crate) fn used(&self, owner: &Owner) -> f64 {
        self.accounts
            .get(&owner.name)
            .map_or(0.0, |account| account.used)
    }

    /// What the least served of the owners with work has had.
    fn floor(&self) -> Option<f64> {
        let busy = self.accounts.values().filter(|account| account.n_jobs > 0);
        busy.map(|account| account.used).min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, weight: u32) -> Owner {
        Owner {
            name: Arc::from(name),
            weight,
        }
    }

    #[test]
    fn weights_divide_and_absence_earns_nothing() {
        let (a, b, c) = (owner("a", 1), owner("b", 2), owner("c", 1));
        let mut ledger = Ledger::default();
        ledger.open(&a);
        ledger.open(&b);
        ledger.charge(&a, 6.0);
        ledger.charge(&b, 6.0);
        assert_eq!((ledger.used(&a), ledger.used(&b)), (6.0, 3.0));
        ledger.open(&c);
        assert_eq!(ledger.used(&c), 3.0, "as the least served of those present");
        // Who had more than the others does not lose that by a pause.
        ledger.close(&a);
        ledger.open(&a);
        assert_eq!(ledger.used(&a), 6.0);
        ledger.charge(&b, 20.0);
        ledger.charge(&c, 20.0);
        ledger.close(&a);
        ledger.open(&a);
        assert_eq!(ledger.used(&a), 13.0);
    }

    #[test]
    fn accounts_of_the_absent_do_not_pile_up() {
        let mut ledger = Ledger::default();
        ledger.open(&owner("always", 1));
        for index in 0..10_000 {
            let one = owner(&index.to_string(), 1);
            ledger.open(&one);
            ledger.charge(&one, 1.0);
            ledger.close(&one);
        }
        assert!(ledger.accounts.len() <= MAX_IDLE + 1);
    }
}
