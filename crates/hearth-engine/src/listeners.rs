//! Who waits for the events of a job: one client, or several whose requests were the same.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use crate::job::{JobError, JobEvent};

/// One of them.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) sender: UnboundedSender<JobEvent>,
    pub(crate) deadline: Option<Instant>,
}

impl Listener {
    fn is_there(&self) -> bool {
        !self.sender.is_closed()
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    pub(crate) fn send(&self, event: JobEvent) {
        // Whoever has gone is noticed before the next step.
        let _ = self.sender.send(event);
    }
}

/// All of them, and what they were told, for those who join later.
#[derive(Debug)]
pub(crate) struct Listeners {
    all: Vec<Listener>,
    record: Option<Vec<JobEvent>>,
}

impl Listeners {
    /// With `takes_more`, others may join.
    pub(crate) fn new(first: Listener, takes_more: bool) -> Self {
        Listeners {
            all: vec![first],
            record: takes_more.then(Vec::new),
        }
    }

    /// Whether others may join.
    pub(crate) fn takes_more(&self) -> bool {
        self.record.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn send(&mut self, event: JobEvent) {
        if let Some(record) = &mut self.record {
            // Of the prompt's progress the newest word says all.
            let is_progress =
                |event: Option<&JobEvent>| matches!(event, Some(JobEvent::Prompt { .. }));
            if is_progress(Some(&event)) && is_progress(record.last()) {
                record.pop();
            }
            record.push(event.clone());
        }
        if let [one] = self.all.as_slice() {
            one.send(event);
            return;
        }
        for listener in &self.all {
            listener.send(event.clone());
        }
    }

    /// Tells a further one what was told so far.
    pub(crate) fn join(&mut self, listener: Listener) {
        for event in self.record.iter().flatten() {
            listener.send(event.clone());
        }
        self.all.push(listener);
    }

    /// Forgets those who are gone, and those whose time is over after telling them. Whether anybody is left.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        self.all.retain(|listener| {
            if listener.is_there() && listener.is_late(now) {
                listener.send(JobEvent::Failed(JobError::Deadline));
                return false;
            }
            listener.is_there()
        });
        !self.all.is_empty()
    }
}
