//! Who runs: admission, shared prompts, and giving places and pages back.

use hearth_kernels::PAGE_POSITIONS;

use super::Worker;
use crate::{
    prefix::Found,
    scheduler::{JobId, Share},
    task::Task,
};

impl<'t> Worker<'t> {
    /// Gives places to those whose turn it is, while there are places and pages.
    pub(super) fn admit(&mut self) {
        while let Some(id) = self.scheduler.next_waiting(|id| self.is_held(id)) {
            if !self.scheduler.has_place() && !self.make_way_for(id) {
                return;
            }
            let is_admitted = match self.embeds.contains_key(&id) {
                true => self.admit_embed(id),
                false => self.admit_task(id),
            };
            if !is_admitted {
                return;
            }
        }
    }

    fn admit_embed(&mut self, id: JobId) -> bool {
        let n_pages = self.setup.memory.pool.n_pages();
        let Some(task) = self.embeds.get_mut(&id) else {
            return false;
        };
        let demand = task.demand(n_pages);
        while !self
            .scheduler
            .fits(&demand, self.setup.memory.n_available())
        {
            if !self.make_way_for(id) {
                return false;
            }
        }
        if let Some(task) = self.embeds.get_mut(&id) {
            task.place = None;
        }
        self.scheduler.start(id, demand);
        true
    }

    fn admit_task(&mut self, id: JobId) -> bool {
        let Found {
            pages: found,
            is_more,
        } = self.find_pages(id);
        let Some(task) = self.tasks.get(&id) else {
            return false;
        };
        let demand = task.demand(found.len());
        // What is being read from files goes on in the next round: others have their step before.
        while is_more
            || !self
                .scheduler
                .fits(&demand, self.setup.memory.n_available())
        {
            if is_more || !self.make_way_for(id) {
                let pool = &mut self.setup.memory.pool;
                found.into_iter().for_each(|page| pool.give_back(page));
                return false;
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        let n_found = found.len() * PAGE_POSITIONS;
        task.pages.adopt(found, n_found);
        task.start();
        self.counts.n_cached += n_found as u64;
        self.scheduler.start(id, demand);
        self.hold_others(id);
        true
    }

    /// The pages of the store that a waiting task can begin with.
    fn find_pages(&mut self, id: JobId) -> Found {
        let memory = &mut self.setup.memory;
        match self.tasks.get(&id) {
            Some(task) if memory.shares() && !task.wants_prompt_logprobs() => {
                let owner = &task.job().owner;
                memory
                    .store
                    .find_some(owner, task.history(), &mut memory.pool)
            }
            _ => Found::default(),
        }
    }

    /// Puts a running job back in favour of a waiting one, if that is fair.
    fn make_way_for(&mut self, id: JobId) -> bool {
        match self.scheduler.gives_way_to(id) {
            Some(victim) => {
                self.put_back(victim);
                true
            }
            None => false,
        }
    }

    /// Takes pages and place of a running job away. It waits again, and goes on where it was.
    fn put_back(&mut self, id: JobId) {
        self.counts.n_preempted += 1;
        if let Some(mut task) = self.tasks.remove(&id) {
            self.free_pages(&mut task);
            task.stop();
            self.scheduler.stop(id, task.demand(0));
            self.tasks.insert(id, task);
        }
        if let Some(task) = self.embeds.get_mut(&id) {
            let pool = &mut self.setup.memory.pool;
            task.put_back(pool);
            self.scheduler.stop(id, task.demand(pool.n_pages()));
        }
    }

    /// Sees to it that all rows of a step have pages: first from what is free, then from the store, at last from jobs.
    pub(super) fn secure_pages(&mut self, shares: &mut Vec<Share>) {
        loop {
            let n_missing = shares.iter().map(|share| self.n_missing(share)).sum();
            if self.setup.memory.make_room(n_missing) {
                return;
            }
            match self.scheduler.least_urgent() {
                Some(victim) => {
                    self.put_back(victim);
                    shares.retain(|share| share.id != victim);
                }
                // The last one has a pool that holds its whole context. What stands in its way is being
                // written to disk and free in a moment.
                None => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    shares.clear();
                    return;
                }
            }
        }
    }

    fn n_missing(&self, share: &Share) -> usize {
        if let Some(task) = self.tasks.get(&share.id) {
            return task.n_missing(share.n_rows);
        }
        let n_pages = self.setup.memory.pool.n_pages();
        let embed = self.embeds.get(&share.id);
        embed.map_or(0, |task| {
            let pieces = task.pieces(share.n_rows, n_pages);
            task.n_missing(&pieces)
        })
    }

    /// Whether a waiting task's prompt begins like one that is just being read: then it takes those pages when they
    /// are done.
    fn is_held(&self, id: JobId) -> bool {
        let held_by = self.tasks.get(&id).and_then(|task| task.held_by);
        held_by.is_some_and(|(reader, until)| {
            let reader = self.tasks.get(&reader);
            reader.is_some_and(|task| task.is_started() && task.pages.len() < until)
        })
    }

    /// Holds a new task back where one that runs reads the same.
    pub(super) fn hold_back(&mut self, id: JobId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let readers = self.tasks.iter().filter(|(_, reader)| reader.is_started());
        let holds = readers
            .filter_map(|(reader_id, reader)| Some((*reader_id, self.until_read(reader, task)?)));
        let held_by = holds.max_by_key(|(_, until)| *until);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.held_by = held_by;
        }
    }

    /// Holds the waiting tasks back that begin like one that starts now.
    fn hold_others(&mut self, id: JobId) {
        let Some(reader) = self.tasks.get(&id) else {
            return;
        };
        let waiting = self.tasks.iter().filter(|(_, task)| !task.is_started());
        let held =
            waiting.filter_map(|(other, task)| Some((*other, self.until_read(reader, task)?)));
        for (other, until) in held.collect::<Vec<_>>() {
            if let Some(task) = self.tasks.get_mut(&other) {
                task.held_by = Some((id, until));
            }
        }
    }

    /// Up to which position `reader` will store full pages that `task` can use, if it has not yet.
    fn until_read(&self, reader: &Task<'t>, task: &Task<'t>) -> Option<usize> {
        let memory = &self.setup.memory;
        let is_allowed =
            memory.shares_between_owners() || reader.job().owner.name == task.job().owner.name;
        if !memory.shares() || !is_allowed || task.wants_prompt_logprobs() {
            return None;
        }
        let own = &task.history()[..task.history().len() - 1];
        let pairs = own.iter().zip(reader.history());
        let n_common = pairs.take_while(|(a, b)| a == b).count();
        let until = n_common / PAGE_POSITIONS * PAGE_POSITIONS;
        (until > reader.pages.len()).then_some(until)
    }
}
