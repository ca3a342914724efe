//! Who is served next, and with how much.
//!
//! A plain struct: it is told what each job still needs and answers with the next step. It has no clock, no threads and no
//! pages; times and page counts are numbers it is given, so whole days of arrivals can be played in a test.
//!
//! A step consists of a row for every job that writes, and pieces of prompts as far as the predicted time allows. Pieces are
//! dealt in small quanta: to interactive jobs first, of those to the owner who had least of the machine, of that owner's jobs
//! to the one that is done soonest. Every fourth quantum goes to the owner's oldest job instead and every sixteenth to the
//! oldest of all, so nobody waits for ever, however many shorter or more urgent jobs arrive. Jobs are admitted in the same order.

mod cost;
mod ledger;

use std::collections::BTreeMap;

pub(crate) use cost::{StepCosts, StepShape};
use ledger::Ledger;

use crate::job::{Owner, Priority};

/// Rows dealt at once.
const QUANTUM: usize = 64;
/// Pieces of prompts are cut to a multiple of this: the kernels work in such tiles.
const TILE: usize = 8;
/// Rows of a prompt that a step has room for, however slow the step: or nothing would ever be read.
const MIN_PREFILL: usize = 16;
/// Every so many turns the oldest job of the owner whose turn it is.
const TURNS_TO_OLDEST: u64 = 4;
/// Every so many turns the oldest job of all.
const TURNS_TO_OLDEST_OF_ALL: u64 = 16;
/// How much longer a step may take when nobody else is there. Whoever comes then waits for the end of it.
const ALONE: f64 = 2.0;
/// Tokens of an answer that pages are kept free for when a job is admitted. Most answers are shorter than what they
/// may be; one that is longer and finds no page is put back and read again.
pub(crate) const HORIZON: usize = 256;
/// Steps a job has been part of before it gives its place to another; twice as many each time it lost it, so that
/// it comes to an end.
const PATIENCE: usize = 32;

/// A job, by its order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub(crate) u64);

/// What a job still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Positions stored.
    pub(crate) n_stored: usize,
    /// Rows to be read, until a token can be drawn if any will be.
    pub(crate) n_left: usize,
    /// Rows that one step may read of them.
    pub(crate) max_rows: usize,
    /// Whether a token is drawn once they are read.
    pub(crate) draws: bool,
    /// Pages held.
    pub(crate) n_pages: usize,
    /// Pages it is expected to hold at the most, as far ahead as one looks ([`HORIZON`]).
    pub(crate) n_pages_wanted: usize,
}

impl Demand {
    /// Whether its next row gives a token.
    fn is_drawing(&self) -> bool {
        self.n_left == 1 && self.draws
    }

    /// Pages it is expected to take beyond those it holds.
    fn growth(&self) -> usize {
        self.n_pages_wanted.saturating_sub(self.n_pages)
    }
}

/// Bounds of a step and of what runs at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedulerLimits {
    /// Jobs that run at once.
    pub(crate) max_sequences: usize,
    /// Rows of a step, at least as many as jobs.
    pub(crate) max_rows: usize,
    /// Seconds a step should take while others wait.
    pub(crate) target: f64,
    /// Positions back that a row sees, if not all.
    pub(crate) window: Option<u32>,
}

#[derive(Clone, Debug)]
struct Entry {
    owner: Owner,
    priority: Priority,
    demand: Demand,
    is_running: bool,
    /// Steps since it was admitted last.
    n_steps: usize,
    /// How often it lost its place.
    n_stopped: u32,
}

/// Rows of one job in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Whose.
    pub(crate) id: JobId,
    /// How many: of a job that draws, one and its guesses.
    pub(crate) n_rows: usize,
    /// Whether a token is drawn after each.
    pub(crate) is_drawing: bool,
}

/// All jobs, waiting and running.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler {
    limits: SchedulerLimits,
    entries: BTreeMap<JobId, Entry>,
    ledger: Ledger,
    costs: StepCosts,
    n_quanta: u64,
    n_admitted: u64,
}

impl Scheduler {
    pub(crate) fn new(limits: SchedulerLimits) -> Self {
        Scheduler {
            limits,
            entries: BTreeMap::new(),
            ledger: Ledger::default(),
            costs: StepCosts::default(),
            n_quanta: 0,
            n_admitted: 0,
        }
    }

    /// A job has arrived.
    pub(crate) fn add(&mut self, id: JobId, owner: Owner, priority: Priority, demand: Demand) {
        self.ledger.open(&owner);
        let entry = Entry {
            owner,
            priority,
            demand,
            is_running: false,
            n_steps: 0,
            n_stopped: 0,
        };
        let before = self.entries.insert(id, entry);
        debug_assert!(before.is_none(), "ids are given once");
    }

    /// A job is gone, for whatever reason.
    pub(crate) fn remove(&mut self, id: JobId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.ledger.close(&entry.owner);
        }
    }

    /// What a job needs has changed.
    pub(crate) fn update(&mut self, id: JobId, demand: Demand) {
        self.entry(id).demand = demand;
    }

    /// A waiting job has got its place.
    pub(crate) fn start(&mut self, id: JobId, demand: Demand) {
        self.n_admitted += 1;
        let entry = self.entry(id);
        (entry.is_running, entry.n_steps, entry.demand) = (true, 0, demand);
    }

    /// A running job has lost its place and waits again.
    pub(crate) fn stop(&mut self, id: JobId, demand: Demand) {
        let entry = self.entry(id);
        (entry.is_running, entry.demand) = (false, demand);
        entry.n_stopped += 1;
    }

    fn entry(&mut self, id: JobId) -> &mut Entry {
        self.entries
            .get_mut(&id)
            .expect("a job is known from add to remove")
    }

    fn running(&self) -> impl Iterator<Item = (JobId, &Entry)> + Clone {
        let all = self.entries.iter().map(|(id, entry)| (*id, entry));
        all.filter(|(_, entry)| entry.is_running)
    }

    pub(crate) fn n_running(&self) -> usize {
        self.running().count()
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.entries.len() - self.n_running()
    }

    /// Whether one more may run.
    pub(crate) fn has_place(&self) -> bool {
        self.n_running() < self.limits.max_sequences
    }

    /// The waiting job whose turn it is, of those that `is_held` does not hold back.
    pub(crate) fn next_waiting(&self, is_held: impl Fn(JobId) -> bool) -> Option<JobId> {
        let waiting = self.entries.iter().map(|(id, entry)| (*id, entry));
        let waiting = waiting.filter(|(id, entry)| !entry.is_running && !is_held(*id));
        let waiting = waiting.map(|(id, entry)| (id, entry, entry.demand.n_left));
        self.pick(waiting, self.n_admitted)
    }

    /// Whether `n_available` pages are enough for a job and for what those that run may still need. One always runs.
    pub(crate) fn fits(&self, demand: &Demand, n_available: usize) -> bool {
        let growth = |(_, entry): (JobId, &Entry)| entry.demand.growth();
        let n_promised: usize = self.running().map(growth).sum();
        self.n_running() == 0 || n_promised + demand.growth() <= n_available
    }

    /// The running job that gives its place to the waiting job `id`: one in the background to an interactive one, and
    /// one of an owner who has more than a fair share of the places to one who has less.
    pub(crate) fn gives_way_to(&self, id: JobId) -> Option<JobId> {
        let needy = self.entries.get(&id)?;
        let share = |owner: &Owner, change: isize| {
            let n = self
                .running()
                .filter(|(_, entry)| entry.owner.name == owner.name);
            n.count().saturating_add_signed(change) as f64 / f64::from(owner.weight.max(1))
        };
        let wanted = share(&needy.owner, 1);
        let gives = |entry: &Entry| {
            entry.n_steps >= PATIENCE << entry.n_stopped.min(16)
                && entry.priority >= needy.priority
                && (entry.priority > needy.priority || share(&entry.owner, -1) >= wanted)
        };
        self.last(self.running().filter(|(_, entry)| gives(entry)))
    }

    /// The running job to be put back when pages are short; none when it would be the only one.
    pub(crate) fn least_urgent(&self) -> Option<JobId> {
        (self.n_running() > 1).then(|| self.last(self.running()))?
    }

    /// The one whose turn would come last.
    fn last<'a>(&self, among: impl Iterator<Item = (JobId, &'a Entry)>) -> Option<JobId> {
        let key = |(id, entry): &(JobId, &Entry)| (entry.priority, *id);
        among
            .max_by(|a, b| {
                let used = |entry: &Entry| self.ledger.used(&entry.owner);
                let by_owner = used(a.1).total_cmp(&used(b.1));
                (key(a).0.cmp(&key(b).0)).then(by_owner).then(a.0.cmp(&b.0))
            })
            .map(|(id, _)| id)
    }

    /// The job whose turn it is, of those given with the rows they have left.
    fn pick<'a>(
        &self,
        among: impl Iterator<Item = (JobId, &'a Entry, usize)> + Clone,
        turn: u64,
    ) -> Option<JobId> {
        let oldest_of_all = turn % TURNS_TO_OLDEST_OF_ALL == TURNS_TO_OLDEST_OF_ALL - 1;
        if oldest_of_all {
            return among.map(|(id, ..)| id).min();
        }
        let by_owner = |a: &(JobId, &Entry, usize), b: &(JobId, &Entry, usize)| {
            let used = |entry: &Entry| self.ledger.used(&entry.owner);
            let by_use = used(a.1).total_cmp(&used(b.1));
            a.1.priority.cmp(&b.1.priority).then(by_use)
        };
        let soonest = among
            .clone()
            .min_by(|a, b| by_owner(a, b).then((a.2, a.0).cmp(&(b.2, b.0))))?;
        if turn % TURNS_TO_OLDEST != TURNS_TO_OLDEST - 1 {
            return Some(soonest.0);
        }
        let (owner, priority) = (&soonest.1.owner.name, soonest.1.priority);
        let same = among.filter(|(_, e, _)| e.owner.name == *owner && e.priority == priority);
        same.map(|(id, ..)| id).min()
    }

    /// The running jobs that draw a token in the next step, with the position of their next row.
    pub(crate) fn drawing(&self) -> impl Iterator<Item = JobId> {
        let drawing = self.running().filter(|(_, e)| e.demand.is_drawing());
        drawing.map(|(id, _)| id)
    }

    /// The next step, and what it consists of. `n_guesses` tells how many tokens are tested beyond the row of a job that draws.
    pub(crate) fn plan(&mut self, n_guesses: impl Fn(JobId) -> usize) -> (Vec<Share>, StepShape) {
        let mut shape = StepShape::default();
        let mut shares = Vec::new();
        for id in self.drawing().collect::<Vec<_>>() {
            let n_rows = 1 + n_guesses(id);
            let n_stored = self.entry(id).demand.n_stored;
            let window = self.limits.window;
            self.charge(
                id,
                &StepShape::default().with_decode(n_stored, n_rows, window),
            );
            shape = shape.with_decode(n_stored, n_rows, window);
            shares.push(Share {
                id,
                n_rows,
                is_drawing: true,
            });
        }
        self.deal_prefill(&mut shares, &mut shape);
        for share in &shares {
            self.entry(share.id).n_steps += 1;
        }
        (shares, shape)
    }

    /// Deals out what room is left to prompts.
    fn deal_prefill(&mut self, shares: &mut Vec<Share>, shape: &mut StepShape) {
        let is_alone = self.entries.len() == 1;
        let budget = self.limits.target * if is_alone { ALONE } else { 1.0 };
        let mut dealt: BTreeMap<JobId, usize> = BTreeMap::new();
        while let Some((id, entry)) = self.next_reader(&dealt) {
            let n_dealt = dealt.get(&id).copied().unwrap_or(0);
            let Demand {
                n_stored,
                n_left,
                max_rows,
                ..
            } = entry.demand;
            let n_free = self.limits.max_rows - shape.n_prefill - shape.n_decode;
            let n_most = QUANTUM.min(n_left.min(max_rows) - n_dealt).min(n_free);
            let start = n_stored + n_dealt;
            let mut n = self.within(budget, shape, start, n_most);
            if shape.n_prefill == 0 {
                n = n.max(MIN_PREFILL.min(n_most));
            }
            if n == 0 {
                break;
            }
            let window = self.limits.window;
            self.charge(id, &StepShape::default().with_prefill(start, n, window));
            *shape = shape.with_prefill(start, n, window);
            *dealt.entry(id).or_default() += n;
            self.n_quanta += 1;
        }
        shares.extend(dealt.into_iter().map(|(id, n_rows)| Share {
            id,
            n_rows,
            is_drawing: false,
        }));
    }

    /// The running job that gets the next quantum of prompt.
    fn next_reader(&self, dealt: &BTreeMap<JobId, usize>) -> Option<(JobId, &Entry)> {
        let readers = self.running().filter_map(|(id, entry)| {
            let n_dealt = dealt.get(&id).copied().unwrap_or(0);
            let n_left = entry.demand.n_left - n_dealt;
            let may_read = !entry.demand.is_drawing() && n_dealt < entry.demand.max_rows;
            (may_read && n_left > 0).then_some((id, entry, n_left))
        });
        let id = self.pick(readers, self.n_quanta)?;
        Some((id, &self.entries[&id]))
    }

    /// How many of `n_most` rows from `start` on leave the step within its time.
    fn within(&self, budget: f64, shape: &StepShape, start: usize, n_most: usize) -> usize {
        let mut n = n_most;
        let time = |n| {
            let shape = shape.with_prefill(start, n, self.limits.window);
            self.costs.predict(&shape)
        };
        while n > 0 && time(n) > budget {
            n = (n - 1) / TILE * TILE;
        }
        n
    }

    fn charge(&mut self, id: JobId, rows: &StepShape) {
        let seconds = self.costs.of_rows(rows);
        self.ledger.charge(&self.entries[&id].owner, seconds);
    }

    /// Notes how long a step took.
    pub(crate) fn note_step(&mut self, shape: &StepShape, seconds: f64) {
        self.costs.note(shape, seconds);
    }
}

#[cfg(test)]
mod tests;
