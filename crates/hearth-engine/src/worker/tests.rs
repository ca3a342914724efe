use std::{num::NonZeroUsize, sync::mpsc::sync_channel};

use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{Kernels, Level};
use hearth_testing::TinyModel;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::{
    engine::{EngineOptions, Shared},
    request::{FinishReason, Request},
};

fn setup() -> Setup {
    let file = TinyModel::new("llama", TensorType::Q4_0).build();
    let gguf = Arc::new(Gguf::from_vec(file).unwrap());
    let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).unwrap());
    let kernels = Kernels::new(Level::best(), NonZeroUsize::MIN).unwrap();
    let options = EngineOptions::default();
    let shared = Arc::new(Shared::default());
    Setup::new(
        gguf,
        Arc::new(Mutex::new(kernels)),
        &options,
        tokenizer,
        shared,
    )
    .unwrap()
}

fn hand_in(worker: &mut Worker<'_>, request: Request) -> UnboundedReceiver<JobEvent> {
    let (sender, receiver) = unbounded_channel();
    let listener = Listener {
        sender,
        deadline: None,
    };
    let place = Place::take(&worker.setup.shared.n_waiting, 10).unwrap();
    worker.obey(Command::Job(Box::new(Job::new(request)), listener, place));
    receiver
}

#[test]
fn after_a_defect_it_goes_on_with_fresh_memory() {
    let setup = setup();
    let tokenizer = setup.tokenizer.clone();
    let (_sender, receiver) = sync_channel(1);
    let mut worker = Worker::new(setup, &tokenizer, receiver);
    let request = Request {
        max_tokens: Some(20),
        ..Request::new((10..200).collect())
    };
    let mut events = hand_in(&mut worker, request.clone());
    let (sender, mut vectors) = unbounded_channel();
    let place = Place::take(&worker.setup.shared.n_waiting, 10).unwrap();
    let texts = vec![vec![5; 300]];
    worker.obey(Command::Embed(Owner::default(), texts, sender, place));
    worker.turn();
    assert!(worker.memory().pool.n_free() < worker.memory().pool.n_pages());
    worker.recover(&"as a panic says it");
    let is_defect = |error: &JobError| error.to_string() == "internal error: as a panic says it";
    let last = std::iter::from_fn(|| events.try_recv().ok())
        .last()
        .unwrap();
    assert!(matches!(last, JobEvent::Failed(error) if is_defect(&error)));
    assert!(
        vectors
            .try_recv()
            .unwrap()
            .is_err_and(|error| is_defect(&error))
    );
    let pool = &worker.memory().pool;
    assert_eq!(pool.n_free(), pool.n_pages());
    assert!(worker.is_idle() && worker.closing == Closing::No);

    let mut events = hand_in(&mut worker, request);
    while !worker.is_idle() {
        worker.turn();
    }
    let last = std::iter::from_fn(|| events.try_recv().ok())
        .last()
        .unwrap();
    let finish = FinishReason::Length;
    assert!(
        matches!(last, JobEvent::Done { finish: f, .. } if f == finish),
        "{last:?}"
    );
}
