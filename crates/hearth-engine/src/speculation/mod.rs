//! Several tokens in one step, without changing one of them.
//!
//! A step over a few rows costs little more than a step over one: the weights are read once. So the tokens that
//! may come next are guessed, and the step that reads the present token reads the guesses after it as well,
//! each as if those before it were right. Then tokens are drawn row by row, as ever: from the same
//! logits, with the same history, penalties and random number, which belongs to the position and not to the
//! number of steps. As long as the token drawn is the one guessed, the next row is what a step of its own would
//! have computed, bit for bit, because no row depends on the others of its step. At the first difference the token
//! drawn stands, and what was stored for the guesses after it is dropped. A guess can only save time or waste it.
//!
//! Guesses come from the text itself (`lookup`: what followed these tokens before) or from a smaller model with the
//! same vocabulary (`draft`). How many are worth a step is decided token by token (`controller`, `cost`).
//! `Speculation` is the state of one sequence; it steps nothing itself.

mod controller;
mod cost;
mod draft;
mod lookup;

use hearth_kernels::{Kernels, Level};

use crate::{request::Speculate, sampler::Sampler, stats::Statistics};
pub use controller::MAX_GUESSES;
use controller::{DraftPace, LookupPace, Plan};
use cost::StepCost;
pub(crate) use draft::Draft;
use lookup::Lookup;

/// Who made a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Lookup,
    Draft,
}

/// Makes the guesses of one sequence and counts how they fare.
#[derive(Debug)]
pub(crate) struct Speculation {
    cost: StepCost,
    lookup: Lookup,
    lookup_pace: LookupPace,
    draft_pace: DraftPace,
    /// Whether it pays is not asked.
    is_forced: bool,
    origin: Origin,
    guesses: Vec<u32>,
    /// Guesses that came true.
    n_right: usize,
}

impl Speculation {
    pub(crate) fn new(level: Level, has_experts: bool) -> Self {
        Speculation {
            cost: StepCost::new(level, has_experts),
            lookup: Lookup::default(),
            lookup_pace: LookupPace::new(),
            draft_pace: DraftPace::new(),
            is_forced: false,
            origin: Origin::Lookup,
            guesses: Vec::with_capacity(MAX_GUESSES),
            n_right: 0,
        }
    }

    /// Starts over with a text.
    pub(crate) fn begin(&mut self, text: &[u32], speculate: Speculate) {
        self.is_forced = speculate == Speculate::Always;
        self.lookup.begin(text);
        self.lookup_pace = LookupPace::new();
        self.draft_pace = DraftPace::new();
        self.withdraw();
    }

    /// At most `n_max` guesses of what follows `text`; none when they would not pay. `n_beside` rows of other
    /// sequences are in the same step.
    pub(crate) fn guess(
        &mut self,
        text: &[u32],
        n_beside: usize,
        n_max: usize,
        draft: Option<(&mut Draft, &Kernels, &mut Sampler)>,
    ) -> &[u32] {
        self.withdraw();
        let lookup = self.lookup_plan(n_beside, n_max);
        if let Some((draft, kernels, sampler)) = draft {
            let plan = self.draft_plan(draft, n_max.min(draft.room(text.len())));
            if let Some(plan) = plan
                && lookup.is_none_or(|lookup| lookup.gain < plan.gain)
            {
                self.origin = Origin::Draft;
                draft.guess(kernels, sampler, text, plan.n_guesses, &mut self.guesses);
                return &self.guesses;
            }
        }
        if let Some(plan) = lookup {
            self.origin = Origin::Lookup;
            self.lookup
                .continuation(text, plan.n_guesses, &mut self.guesses);
        }
        &self.guesses
    }

    fn lookup_plan(&self, n_beside: usize, n_max: usize) -> Option<Plan> {
        match self.lookup.n_agree() {
            0 => None,
            _ if self.is_forced => Plan::forced(n_max, f32::INFINITY),
            n_agree => (self.lookup_pace).plan(&self.cost, n_agree, n_beside, n_max),
        }
    }

    fn draft_plan(&mut self, draft: &Draft, n_max: usize) -> Option<Plan> {
        if self.is_forced {
            return Plan::forced(n_max, 0.0);
        }
        self.draft_pace.plan(&self.cost, draft.cost(), n_max)
    }

    /// The guesses made last.
    pub(crate) fn guesses(&self) -> &[u32] {
        &self.guesses
    }

    /// Takes the guesses back: they will not be tested.
    pub(crate) fn withdraw(&mut self) {
        self.guesses.clear();
        self.n_right = 0;
    }

    /// Notes the last token of `text`, just drawn. Whether it was guessed: then the row after it is valid too.
    pub(crate) fn drawn(&mut self, text: &[u32], statistics: &mut Statistics) -> bool {
        let (before, token) = (&text[..text.len() - 1], text[text.len() - 1]);
        if let Some(guess) = self.lookup.next(before) {
            self.lookup_pace.note(self.lookup.n_agree(), guess == token);
        }
        self.lookup.push(text);
        self.draft_pace.drawn();
        let Some(&guess) = self.guesses.get(self.n_right) else {
            return false;
        };
        let is_right = guess == token;
        let counts = match self.origin {
            Origin::Lookup => &mut statistics.lookup,
            Origin::Draft => {
                self.draft_pace.note(is_right);
                &mut statistics.draft
            }
        };
        if self.n_right == 0 {
            counts.n_made += self.guesses.len();
        }
        counts.n_right += usize::from(is_right);
        if is_right {
            self.n_right += 1;
        }
        is_right
    }
}
