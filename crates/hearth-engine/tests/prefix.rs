//! Prompts read by an engine that is gone: the next one finds them, and answers the same bytes.

use std::{
    env, fs,
    num::NonZeroUsize,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_engine::{
    Engine, EngineOptions, Job, JobEvent, Owner, Request, SamplingParams,
    prefix::{DiskOptions, PrefixOptions},
};
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{Kernels, KvType, Level};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

/// A folder for a model and its pages, removed at the end.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let path = env::temp_dir().join(format!("hearth-engine-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let model = TinyModel::new("qwen3", TensorType::Q4_0).build();
        fs::write(path.join("tiny.gguf"), model).unwrap();
        Home(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn engine(home: &std::path::Path, kv_type: KvType) -> Engine {
    let gguf = Arc::new(Gguf::open(&home.join("tiny.gguf")).unwrap());
    let kernels = Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap();
    let options = EngineOptions {
        kv_type,
        prefix: PrefixOptions {
            disk: Some(DiskOptions::new(home.join("cache"))),
            ..PrefixOptions::default()
        },
        ..EngineOptions::default()
    };
    Engine::start(gguf, Arc::new(Mutex::new(kernels)), options).unwrap()
}

fn job(owner: &str, n: u32) -> Job {
    let sampling = SamplingParams {
        temperature: 1.0,
        seed: Some(7),
        ..SamplingParams::default()
    };
    let prompt = (0..n).map(|i| 3 + i * 37 % (N_VOCAB - 3)).collect();
    Job {
        owner: Owner {
            name: owner.into(),
            weight: 1,
        },
        n_logprobs: Some(5),
        ..Job::new(Request {
            max_tokens: Some(20),
            sampling,
            ..Request::new(prompt)
        })
    }
}

/// Cached tokens, and everything about the answer, bits of its log-probabilities included.
fn ask(engine: &Engine, job: Job) -> (usize, String) {
    let mut events = engine.submit(job).unwrap();
    let (mut n_cached, mut answer) = (None, String::new());
    while let Some(event) = events.blocking_next() {
        match event {
            JobEvent::Prompt { n_cached: n, .. } => n_cached = Some(n),
            JobEvent::Token {
                token,
                text,
                logprob,
            } => {
                let logprob = logprob.unwrap();
                let top = logprob.top.iter();
                let top: Vec<_> = top.map(|(id, p)| (*id, p.to_bits())).collect();
                answer += &format!("{token} {text:?} {} {top:?}\n", logprob.logprob.to_bits());
            }
            JobEvent::Done {
                finish, statistics, ..
            } => {
                assert_eq!(Some(statistics.n_reused), n_cached);
                answer += &format!("{finish:?}");
                return (statistics.n_reused, answer);
            }
            JobEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("the answer has no end");
}

fn shut_down(engine: Engine) {
    engine.shut_down(Duration::from_secs(60));
}

#[test]
fn the_next_engine_finds_what_was_read() {
    for kv_type in KvType::ALL {
        let home = Home::new(kv_type.name());
        let first = engine(&home.0, kv_type);
        let (n_cached, expected) = ask(&first, job("ann", 400));
        assert_eq!(n_cached, 0);
        assert_eq!(ask(&first, job("ann", 400)), (384, expected.clone()));
        shut_down(first);

        let second = engine(&home.0, kv_type);
        let bob = ask(&second, job("bob", 400));
        assert_eq!(bob, (0, expected.clone()), "another owner reads it herself");
        assert_eq!(ask(&second, job("ann", 400)), (384, expected.clone()));
        assert_eq!(ask(&second, job("ann", 200)).0, 192, "a part of it");
        shut_down(second);

        // Another owner's pages do not help where hers were lost.
        let pages = home.0.join("cache");
        fs::remove_dir_all(&pages).unwrap();
        let third = engine(&home.0, kv_type);
        assert_eq!(ask(&third, job("ann", 400)), (0, expected));
        shut_down(third);
    }
}

/// Another process reads the prompt and is killed after its answer; this one finds the pages.
#[test]
fn what_another_process_read_is_found_though_it_was_killed() {
    let home = Home::new("processes");
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "answers_once", "--ignored", "--nocapture"])
        .env("HEARTH_TEST_HOME", &home.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let answer = home.0.join("answer");
    let n_pages = || {
        let folders = fs::read_dir(home.0.join("cache/prefix"))
            .into_iter()
            .flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()));
        files.flatten().count()
    };
    // The pages come by themselves, also once nothing is asked any more.
    while !answer.exists() || n_pages() < 6 {
        assert!(child.try_wait().unwrap().is_none(), "it waits to be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let expected = fs::read_to_string(answer).unwrap();

    let engine = engine(&home.0, KvType::F16);
    let (n_cached, answer) = ask(&engine, job("ann", 400));
    assert_eq!((n_cached, answer), (384, expected));
    shut_down(engine);
}

#[test]
#[ignore = "the other process of what_another_process_read_is_found_though_it_was_killed"]
fn answers_once() {
    let home: PathBuf = env::var_os("HEARTH_TEST_HOME")
        .expect("started by a test")
        .into();
    let engine = engine(&home, KvType::F16);
    let (_, answer) = ask(&engine, job("ann", 400));
    fs::write(home.join("answer.new"), answer).unwrap();
    fs::rename(home.join("answer.new"), home.join("answer")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}
