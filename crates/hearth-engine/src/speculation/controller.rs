//! How many guesses are worth a place in the next step.
//!
//! A step over several rows costs more than one over a single row, and a wrong guess makes all after
//! it useless. So the controller weighs the tokens expected from a step against what the step costs and takes
//! the number with the most tokens for the work, none if that gains too little. How likely a guess
//! is right it learns by counting: guesses from the text are compared with what is drawn whether they were
//! put to the test or not, which costs nothing, so it sees by itself when they begin to pay. Guesses of a draft
//! model have a price, so after a run of wrong ones it waits, longer each time, before it tries again.
//!
//! There is no clock here: the cost of a step is a table ([`StepCost`]). The same request makes
//! the same guesses on every run, so a slow answer can be studied; and nothing here can change a token.

use super::cost::StepCost;

/// The most tokens guessed for one step.
pub const MAX_GUESSES: usize = 15;

/// A gain below this is not worth the risk that the table is wrong for this machine.
const MIN_GAIN: f32 = 1.05;

/// How often guesses of one kind come true: a running mean.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    share: f32,
    /// What `share` is made of; a new outcome counts one part of it.
    weight: f32,
}

impl Rate {
    /// Outcomes it remembers: it must notice when a text changes its nature.
    const MAX_WEIGHT: f32 = 32.0;

    /// A prior as strong as four outcomes.
    const fn new(share: f32) -> Rate {
        Rate { share, weight: 4.0 }
    }

    fn note(&mut self, is_right: bool) {
        self.weight = (self.weight + 1.0).min(Rate::MAX_WEIGHT);
        self.share += (f32::from(u8::from(is_right)) - self.share) / self.weight;
    }
}

/// A number of guesses and what it promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) n_guesses: usize,
    /// Tokens for the work of a plain step.
    pub(crate) gain: f32,
}

impl Plan {
    /// As many guesses as there may be, whatever they bring.
    pub(crate) fn forced(n_max: usize, gain: f32) -> Option<Plan> {
        let n_guesses = n_max.min(MAX_GUESSES);
        (n_guesses > 0).then_some(Plan { n_guesses, gain })
    }
}

/// The plan with the highest gain among up to `n_max` guesses, of which the i-th is right with
/// probability `rate(i)` if those before it were; each costs `guess_cost` plain steps to make. `n_beside` rows of others
/// give a token each in the same step, and wait for it as well.
fn best_plan(
    cost: &StepCost,
    n_beside: usize,
    n_max: usize,
    guess_cost: f32,
    rate: impl Fn(usize) -> f32,
) -> Option<Plan> {
    let mut best: Option<Plan> = None;
    let n_plain = 1 + n_beside;
    let (mut all_right, mut n_expected) = (1.0, n_plain as f32);
    for n_guesses in 1..=n_max.min((1 + MAX_GUESSES).saturating_sub(n_plain)) {
        all_right *= rate(n_guesses - 1);
        n_expected += all_right;
        let work = cost.of(n_plain + n_guesses) / cost.of(n_plain);
        let gain = n_expected / n_plain as f32 / (work + n_guesses as f32 * guess_cost);
        if gain >= best.map_or(MIN_GAIN, |best| best.gain) {
            best = Some(Plan { n_guesses, gain });
        }
    }
    best
}

/// Counts how often guesses from the text come true, apart by how many tokens agreed before them.
#[derive(Clone, Debug)]
pub(crate) struct LookupPace {
    rates: [Rate; 6],
}

impl LookupPace {
    pub(crate) fn new() -> Self {
        LookupPace {
            rates: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8].map(Rate::new),
        }
    }

    fn class(n_agree: usize) -> usize {
        match n_agree {
            0..=2 => 0,
            3 => 1,
            4..=5 => 2,
            6..=8 => 3,
            9..=15 => 4,
            _ => 5,
        }
    }

    /// Notes whether the guess after `n_agree` tokens that agreed was the token drawn.
    pub(crate) fn note(&mut self, n_agree: usize, is_right: bool) {
        self.rates[Self::class(n_agree)].note(is_right);
    }

    /// `n_beside`: rows of other sequences in the same step.
    pub(crate) fn plan(
        &self,
        cost: &StepCost,
        n_agree: usize,
        n_beside: usize,
        n_max: usize,
    ) -> Option<Plan> {
        // Every guess that comes true is one more token that agrees.
        best_plan(cost, n_beside, n_max, 0.0, |index| {
            self.rates[Self::class(n_agree + index)].share
        })
    }
}

/// Counts how often a draft model's guesses come true, and when it is asked at all.
#[derive(Clone, Debug)]
pub(crate) struct DraftPace {
    rate: Rate,
    /// Tokens still to be drawn before it is asked again.
    n_waiting: usize,
    /// The length of the next wait.
    wait: usize,
    /// Guesses tested since the last wait.
    n_tested: usize,
}

impl DraftPace {
    const PRIOR: Rate = Rate::new(0.6);
    const FIRST_WAIT: usize = 32;
    /// So many tests without a reason to wait forgive the earlier ones.
    const FORGIVEN: usize = 128;

    pub(crate) fn new() -> Self {
        DraftPace {
            rate: Self::PRIOR,
            n_waiting: 0,
            wait: Self::FIRST_WAIT,
            n_tested: 0,
        }
    }

    /// `guess_cost`: what the draft model takes for one guess, in plain steps.
    pub(crate) fn plan(&mut self, cost: &StepCost, guess_cost: f32, n_max: usize) -> Option<Plan> {
        if self.n_waiting > 0 || n_max == 0 {
            return None;
        }
        let plan = best_plan(cost, 0, n_max, guess_cost, |_| self.rate.share);
        // With room for few guesses none may pay that otherwise would: the answer's end, not the draft's fault.
        if plan.is_none() && n_max >= MAX_GUESSES {
            self.n_waiting = self.wait;
            self.wait = self.wait.saturating_mul(2);
            self.n_tested = 0;
            self.rate = Self::PRIOR;
        }
        plan
    }

    pub(crate) fn note(&mut self, is_right: bool) {
        self.rate.note(is_right);
        self.n_tested += 1;
        if self.n_tested == Self::FORGIVEN {
            self.wait = Self::FIRST_WAIT;
        }
    }

    /// Notes that a token was drawn, by whatever means.
    pub(crate) fn drawn(&mut self) {
        self.n_waiting = self.n_waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a row beside the first costs a fifth of it.
    fn cost() -> StepCost {
        StepCost::linear(0.2)
    }

    #[test]
    fn guesses_that_come_true_are_made_more_and_others_none() {
        let mut pace = LookupPace::new();
        for _ in 0..100 {
            pace.note(20, true);
            pace.note(2, false);
        }
        let sure = pace.plan(&cost(), 20, 0, 100).expect("worth it");
        assert_eq!(sure.n_guesses, MAX_GUESSES);
        assert!(sure.gain > 3.0, "{sure:?}");
        assert_eq!(pace.plan(&cost(), 2, 0, 100), None);
        assert_eq!(
            pace.plan(&cost(), 20, 0, 3).map(|plan| plan.n_guesses),
            Some(3)
        );
        assert_eq!(pace.plan(&cost(), 20, 0, 0), None);
        for _ in 0..100 {
            pace.note(2, true);
        }
        assert!(pace.plan(&cost(), 2, 0, 100).is_some(), "it learns anew");
    }

    #[test]
    fn beside_others_there_is_less_to_gain_and_in_the_end_no_room() {
        let mut pace = LookupPace::new();
        (0..100).for_each(|_| pace.note(20, true));
        let gain = |n_beside| pace.plan(&cost(), 20, n_beside, 100).map(|plan| plan.gain);
        assert!(gain(0) > gain(3) && gain(3) > gain(8), "{:?}", gain(3));
        assert_eq!(gain(15), None);
        assert_eq!(gain(40), None);
    }

    #[test]
    fn where_rows_cost_as_much_as_steps_nothing_is_guessed() {
        let mut pace = LookupPace::new();
        (0..1000).for_each(|_| pace.note(32, true));
        assert_eq!(pace.plan(&StepCost::linear(1.0), 32, 0, 100), None);
    }

    #[test]
    fn a_draft_that_fails_waits_longer_each_time() {
        let mut pace = DraftPace::new();
        let mut n_asked = Vec::new();
        for token in 0..2000 {
            if let Some(plan) = pace.plan(&cost(), 0.1, 100) {
                n_asked.push(token);
                (0..plan.n_guesses.min(1)).for_each(|_| pace.note(false));
            }
            pace.drawn();
        }
        let waits = n_asked
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > 1)
            .count();
        assert!((4..=8).contains(&waits), "{n_asked:?}");
        assert!(n_asked.len() < 60, "{n_asked:?}");
        // One that is right is asked at every token.
        let mut pace = DraftPace::new();
        for _ in 0..500 {
            let plan = pace.plan(&cost(), 0.1, 100).expect("it pays");
            (0..plan.n_guesses).for_each(|_| pace.note(true));
            pace.drawn();
        }
    }
}
