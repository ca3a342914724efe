use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;

const PAGE: usize = 64;

fn owner(name: &str, weight: u32) -> Owner {
    Owner {
        name: Arc::from(name),
        weight,
    }
}

/// A job as it would be on a machine: it has read `stored` of `history` positions and will write up to `end`.
#[derive(Clone, Debug)]
struct Job {
    history: usize,
    end: usize,
    stored: usize,
    pages: usize,
}

impl Job {
    fn new(prompt: usize, answer: usize) -> Self {
        Job {
            history: prompt,
            end: prompt + answer,
            stored: 0,
            pages: 0,
        }
    }

    fn demand(&self) -> Demand {
        Demand {
            n_stored: self.stored,
            n_left: self.history - self.stored,
            max_rows: usize::MAX,
            draws: self.history < self.end,
            n_pages: self.pages,
            n_pages_wanted: (self.history + HORIZON).min(self.end).div_ceil(PAGE),
        }
    }

    fn n_missing(&self, n_rows: usize) -> usize {
        (self.stored + n_rows)
            .div_ceil(PAGE)
            .saturating_sub(self.pages)
    }
}

/// A machine without a model: jobs, pages as numbers, and steps that take as long as a formula says.
struct Machine {
    scheduler: Scheduler,
    limits: SchedulerLimits,
    n_pages: usize,
    jobs: BTreeMap<JobId, Job>,
    running: Vec<JobId>,
    next: u64,
    n_steps: usize,
    seconds: f64,
    /// Rows each job got.
    n_rows: BTreeMap<JobId, usize>,
    n_put_back: usize,
}

/// Two milliseconds a row of prompt, little for the rest.
fn truth(shape: &StepShape) -> f64 {
    0.02 + 0.002 * shape.n_prefill as f64
        + 0.004 * shape.n_decode as f64
        + 1e-7 * shape.n_seen as f64
}

impl Machine {
    fn new(max_sequences: usize, max_rows: usize, n_pages: usize) -> Self {
        let limits = SchedulerLimits {
            max_sequences,
            max_rows,
            target: 0.2,
            window: None,
        };
        Machine {
            scheduler: Scheduler::new(limits),
            limits,
            n_pages,
            jobs: BTreeMap::new(),
            running: Vec::new(),
            next: 0,
            n_steps: 0,
            seconds: 0.0,
            n_rows: BTreeMap::new(),
            n_put_back: 0,
        }
    }

    fn arrive(&mut self, owner: &Owner, priority: Priority, job: Job) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.scheduler
            .add(id, owner.clone(), priority, job.demand());
        self.jobs.insert(id, job);
        id
    }

    fn leave(&mut self, id: JobId) {
        if self.jobs.remove(&id).is_some() {
            self.scheduler.remove(id);
            self.running.retain(|other| *other != id);
        }
    }

    fn n_free(&self) -> usize {
        let used: usize = self.jobs.values().map(|job| job.pages).sum();
        self.n_pages
            .checked_sub(used)
            .expect("no more pages than there are")
    }

    fn put_back(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("a job that runs");
        (job.stored, job.pages) = (0, 0);
        self.scheduler.stop(id, job.demand());
        self.running.retain(|other| *other != id);
        self.n_put_back += 1;
    }

    fn admit(&mut self) {
        while let Some(id) = self.scheduler.next_waiting(|_| false) {
            assert!(!self.running.contains(&id), "one that runs does not wait");
            let demand = self.jobs[&id].demand();
            while !self.scheduler.has_place() || !self.scheduler.fits(&demand, self.n_free()) {
                match self.scheduler.gives_way_to(id) {
                    Some(victim) => self.put_back(victim),
                    None => return,
                }
            }
            self.scheduler.start(id, demand);
            self.running.push(id);
            assert!(self.running.len() <= self.limits.max_sequences);
        }
    }

    /// One step; the jobs that are done with it.
    fn step(&mut self) -> Vec<JobId> {
        self.admit();
        let (mut shares, shape) = self.scheduler.plan(|_| 0);
        let n_rows: usize = shares.iter().map(|share| share.n_rows).sum();
        assert_eq!(n_rows, shape.n_prefill + shape.n_decode);
        assert!(n_rows <= self.limits.max_rows, "{n_rows} rows");
        assert_eq!(
            self.running.is_empty(),
            shares.is_empty(),
            "work is done when there is some"
        );
        loop {
            let missing = |share: &Share| self.jobs[&share.id].n_missing(share.n_rows);
            if shares.iter().map(missing).sum::<usize>() <= self.n_free() {
                break;
            }
            let victim = self
                .scheduler
                .least_urgent()
                .expect("the last one always has room");
            self.put_back(victim);
            shares.retain(|share| share.id != victim);
        }
        let seconds = truth(&shape);
        self.scheduler.note_step(&shape, seconds);
        self.seconds += seconds;
        self.n_steps += 1;
        let done: Vec<JobId> = shares
            .iter()
            .filter_map(|share| self.advance(share))
            .collect();
        done.iter().for_each(|id| self.leave(*id));
        done
    }

    /// The job's id if it is done.
    fn advance(&mut self, share: &Share) -> Option<JobId> {
        assert!(self.running.contains(&share.id), "only what runs gets rows");
        *self.n_rows.entry(share.id).or_default() += share.n_rows;
        let job = self.jobs.get_mut(&share.id).expect("a job that runs");
        assert!(share.n_rows >= 1 && share.n_rows <= job.history - job.stored);
        job.pages += job.n_missing(share.n_rows);
        job.stored += share.n_rows;
        if job.stored == job.history {
            job.history += usize::from(job.history < job.end);
            if job.history == job.end {
                return Some(share.id);
            }
        }
        self.scheduler.update(share.id, job.demand());
        None
    }
}

#[derive(Clone, Debug)]
struct Arrival {
    step: usize,
    owner: usize,
    is_background: bool,
    prompt: usize,
    answer: usize,
    /// Steps after which the client goes away.
    patience: Option<usize>,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let prompt = prop_oneof![1usize..40, 1usize..300, 300usize..900];
    let one = (
        0usize..60,
        0usize..3,
        any::<bool>(),
        prompt,
        0usize..90,
        any::<u8>(),
    );
    let one = one.prop_map(
        |(step, owner, is_background, prompt, answer, leaves)| Arrival {
            step,
            owner,
            is_background,
            prompt,
            answer,
            patience: (leaves < 60).then_some(usize::from(leaves)),
        },
    );
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes and goes, with pages for little more than one job: bounds are kept and everybody is served.
    #[test]
    fn all_that_stay_are_done(
        arrivals in arrivals(),
        max_sequences in 1usize..9,
        max_rows in 9usize..200,
        spare in 0usize..20,
    ) {
        // The longest job has 990 positions.
        let mut machine = Machine::new(max_sequences, max_rows, 16 + spare);
        let owners = [owner("a", 1), owner("b", 3), owner("c", 1)];
        let mut leaving = BTreeMap::new();
        let mut n_done = 0;
        for step in 0..20_000 {
            for arrival in arrivals.iter().filter(|arrival| arrival.step == step) {
                let priority = match arrival.is_background {
                    true => Priority::Background,
                    false => Priority::Interactive,
                };
                let job = Job::new(arrival.prompt, arrival.answer);
                let id = machine.arrive(&owners[arrival.owner], priority, job);
                if let Some(patience) = arrival.patience {
                    leaving.insert(id, step + patience);
                }
            }
            for (id, _) in leaving.iter().filter(|(_, at)| **at == step) {
                machine.leave(*id);
            }
            n_done += machine.step().len();
            if step > 60 && machine.jobs.is_empty() {
                break;
            }
        }
        prop_assert!(machine.jobs.is_empty(), "left over: {:?}", machine.jobs);
        prop_assert_eq!(machine.n_free(), machine.n_pages);
        let n_staying = arrivals.iter().filter(|arrival| arrival.patience.is_none()).count();
        prop_assert!(n_done >= n_staying);
    }
}

#[test]
fn a_short_prompt_goes_ahead_of_a_long_one() {
    let mut machine = Machine::new(8, 512, 10_000);
    let user = owner("", 1);
    let long = machine.arrive(&user, Priority::Interactive, Job::new(16_000, 10));
    for _ in 0..20 {
        machine.step();
    }
    for round in 0..8 {
        let before = machine.n_rows[&long];
        let short = machine.arrive(&user, Priority::Interactive, Job::new(32, 20));
        machine.step();
        machine.step();
        assert!(
            machine.jobs[&short].history > 32,
            "round {round}: it writes after two steps"
        );
        let started = machine.seconds;
        while machine.jobs.contains_key(&short) {
            machine.step();
        }
        assert!(
            machine.n_rows[&long] > before + 200,
            "and the long one goes on"
        );
        let step = (machine.seconds - started) / 18.0;
        assert!(step < 0.25, "steps take {step} s beside one that writes");
    }
}

#[test]
fn alone_a_prompt_gets_long_steps() {
    let mut machine = Machine::new(8, 512, 10_000);
    machine.arrive(&owner("", 1), Priority::Interactive, Job::new(4000, 1));
    for _ in 0..8 {
        machine.step();
    }
    let before = machine.n_rows[&JobId(0)];
    machine.step();
    let n_rows = machine.n_rows[&JobId(0)] - before;
    assert!(
        (140..=200).contains(&n_rows),
        "{n_rows} rows in 0.4 s of 2 ms each"
    );
}

#[test]
fn owners_share_by_weight_whatever_they_send() {
    let (a, b) = (owner("a", 1), owner("b", 3));
    let mut machine = Machine::new(8, 512, 100_000);
    let mut n_rows: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ids: BTreeMap<JobId, &str> = BTreeMap::new();
    // One sends eight long prompts at a time, the other one short one after the other.
    for _ in 0..2000 {
        for (owner, n, prompt) in [(&a, 6, 3000), (&b, 2, 200)] {
            while ids
                .iter()
                .filter(|(id, name)| **name == &*owner.name && machine.jobs.contains_key(id))
                .count()
                < n
            {
                let id = machine.arrive(owner, Priority::Interactive, Job::new(prompt, 1));
                ids.insert(id, if owner.weight == 1 { "a" } else { "b" });
            }
        }
        machine.step();
    }
    for (id, n) in &machine.n_rows {
        *n_rows.entry(ids[id]).or_default() += n;
    }
    let ratio = n_rows["b"] as f64 / n_rows["a"] as f64;
    assert!((2.2..3.8).contains(&ratio), "{n_rows:?}");
}

#[test]
fn nobody_starves_behind_shorter_or_more_urgent_jobs() {
    let (user, other) = (owner("", 1), owner("other", 1));
    for (who, priority) in [
        (&user, Priority::Interactive),
        (&user, Priority::Background),
        (&other, Priority::Background),
    ] {
        let mut machine = Machine::new(4, 512, 10_000);
        let slow = machine.arrive(who, priority, Job::new(2000, 5));
        let mut n_steps = 0;
        while machine.jobs.contains_key(&slow) {
            while machine.scheduler.n_waiting() < 3 {
                machine.arrive(&user, Priority::Interactive, Job::new(90, 1));
            }
            machine.step();
            n_steps += 1;
            assert!(n_steps < 2000, "{priority:?} of {who:?} waits for ever");
        }
    }
}

#[test]
fn places_are_shared_when_one_owner_holds_them_all() {
    let (a, b) = (owner("a", 1), owner("b", 1));
    let mut machine = Machine::new(4, 64, 10_000);
    for _ in 0..8 {
        machine.arrive(&a, Priority::Interactive, Job::new(10, 5000));
    }
    for _ in 0..2 * PATIENCE {
        machine.step();
    }
    let first = machine.arrive(&b, Priority::Interactive, Job::new(10, 5000));
    let second = machine.arrive(&b, Priority::Interactive, Job::new(10, 5000));
    let third = machine.arrive(&b, Priority::Interactive, Job::new(10, 5000));
    for _ in 0..2 * PATIENCE {
        machine.step();
    }
    let runs = |id: JobId| machine.running.contains(&id);
    assert!(
        runs(first) && runs(second) && !runs(third),
        "two places each"
    );
    assert_eq!(
        machine.n_put_back, 2,
        "and nobody is thrown out again and again"
    );
}

#[test]
fn a_job_that_outgrows_the_pages_is_put_back_and_finished() {
    // Both fit at first; together they grow beyond all pages.
    let mut machine = Machine::new(4, 512, 24);
    let user = owner("", 1);
    for _ in 0..2 {
        machine.arrive(&user, Priority::Interactive, Job::new(64, 1300));
    }
    let mut n_steps = 0;
    while !machine.jobs.is_empty() {
        machine.step();
        n_steps += 1;
    }
    assert!(
        (1..4).contains(&machine.n_put_back),
        "{}",
        machine.n_put_back
    );
    assert!(n_steps < 2700, "{n_steps} steps");
}
