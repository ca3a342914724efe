//! Figures for Prometheus, `GET /metrics`: requests, waiting times, and what each model's engine does.
//!
//! Labels come from our own tables (routes, configured models, status codes), never from a request, so their number is
//! bounded and no prompt can reach them. The figures belong to one server, not to the process: tests run many.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hearth_engine::EngineSnapshot;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

const METADATA: Metadata<'static> = Metadata::new("hearth", Level::INFO, None);

/// Bounds in seconds; a CPU may take minutes to a first token.
const SECONDS: [f64; 14] = [
    0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0,
];

const REQUESTS: &str = "hearth_requests_total";
const REQUEST_SECONDS: &str = "hearth_request_seconds";
const FIRST_TOKEN_SECONDS: &str = "hearth_first_token_seconds";
const CONNECTIONS: &str = "hearth_connections";

type EngineFigure = (&'static str, &'static str, bool, fn(&EngineSnapshot) -> f64);

/// What each figure of an engine is called, what it means, and whether it only grows.
const ENGINE: [EngineFigure; 13] = [
    ("hearth_running", "Answers being worked on", false, |s| {
        s.n_running as f64
    }),
    (
        "hearth_waiting",
        "Requests waiting for their turn",
        false,
        |s| s.n_waiting as f64,
    ),
    (
        "hearth_pages",
        "Pages of keys and values the budget holds",
        false,
        |s| s.n_pages as f64,
    ),
    (
        "hearth_pages_used",
        "Pages that running answers hold",
        false,
        |s| s.n_pages_used as f64,
    ),
    (
        "hearth_pages_cached",
        "Pages kept for prompts to come",
        false,
        |s| s.n_pages_cached as f64,
    ),
    (
        "hearth_last_step_seconds",
        "Time of the last step",
        false,
        |s| s.last_step_ms / 1e3,
    ),
    ("hearth_steps_total", "Steps made", true, |s| {
        s.n_steps as f64
    }),
    (
        "hearth_prompt_tokens_total",
        "Prompt tokens read by the model",
        true,
        |s| s.n_read as f64,
    ),
    (
        "hearth_cached_tokens_total",
        "Prompt tokens found in the prefix store",
        true,
        |s| s.n_cached as f64,
    ),
    (
        "hearth_completion_tokens_total",
        "Tokens written",
        true,
        |s| s.n_written as f64,
    ),
    (
        "hearth_preempted_total",
        "Answers set aside for others and taken up again",
        true,
        |s| s.n_preempted as f64,
    ),
    (
        "hearth_joined_total",
        "Requests that joined an identical one",
        true,
        |s| s.n_joined as f64,
    ),
    (
        "hearth_cancelled_total",
        "Answers nobody waited for any more",
        true,
        |s| s.n_cancelled as f64,
    ),
];

/// The figures of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    /// Sums of engines that have ended, by model: a counter never falls.
    ended: Mutex<HashMap<String, Vec<f64>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .expect("the list of bounds is not empty");
        let recorder = builder.build_recorder();
        recorder.describe_counter(REQUESTS.into(), None, "Requests by route and status".into());
        recorder.describe_histogram(
            REQUEST_SECONDS.into(),
            None,
            "Time to the head of an answer".into(),
        );
        recorder.describe_histogram(
            FIRST_TOKEN_SECONDS.into(),
            None,
            "Time from a request to its first token".into(),
        );
        recorder.describe_gauge(CONNECTIONS.into(), None, "Open connections".into());
        for (name, meaning, is_sum, _) in ENGINE {
            match is_sum {
                true => recorder.describe_counter(name.into(), None, meaning.into()),
                false => recorder.describe_gauge(name.into(), None, meaning.into()),
            }
        }
        Metrics {
            recorder,
            ended: Mutex::default(),
        }
    }
}

impl Metrics {
    /// A request was answered: its head is on the way.
    pub fn answered(&self, route: &str, status: u16, time: Duration) {
        let route = Label::new("route", route.to_owned());
        let labels = vec![route.clone(), Label::new("status", status.to_string())];
        let counter = Key::from_parts(REQUESTS, labels);
        self.recorder
            .register_counter(&counter, &METADATA)
            .increment(1);
        let histogram = Key::from_parts(REQUEST_SECONDS, vec![route]);
        self.recorder
            .register_histogram(&histogram, &METADATA)
            .record(time.as_secs_f64());
    }

    /// A request's first token was drawn, so long after the request came.
    pub fn first_token(&self, model: &str, time: Duration) {
        let key = Key::from_parts(
            FIRST_TOKEN_SECONDS,
            vec![Label::new("model", model.to_owned())],
        );
        self.recorder
            .register_histogram(&key, &METADATA)
            .record(time.as_secs_f64());
    }

    /// How many connections are open.
    pub fn connections(&self, n: usize) {
        let key = Key::from_name(CONNECTIONS);
        self.recorder.register_gauge(&key, &METADATA).set(n as f64);
    }

    /// A model's engine has ended with these figures.
    pub fn ended(&self, model: &str, last: &EngineSnapshot) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = ended
            .entry(model.to_owned())
            .or_insert_with(|| vec![0.0; ENGINE.len()]);
        for (sum, (_, _, is_sum, read)) in sums.iter_mut().zip(ENGINE) {
            if is_sum {
                *sum += read(last);
            }
        }
        drop(ended);
        self.set(model, None);
    }

    /// All figures, as Prometheus reads them; `models` are those that are loaded.
    pub fn render(&self, models: &[(String, EngineSnapshot)]) -> String {
        for (model, snapshot) in models {
            self.set(model, Some(snapshot));
        }
        self.recorder.handle().render()
    }

    /// Throws away samples that were counted: to be called now and then.
    pub fn tidy(&self) {
        self.recorder.handle().run_upkeep();
    }

    fn set(&self, model: &str, snapshot: Option<&EngineSnapshot>) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (name, _, is_sum, read)) in ENGINE.into_iter().enumerate() {
            let key = Key::from_parts(name, vec![Label::new("model", model.to_owned())]);
            let now = snapshot.map_or(0.0, read);
            if is_sum {
                let before = ended.get(model).map_or(0.0, |sums| sums[index]);
                let sum = (before + now) as u64;
                self.recorder
                    .register_counter(&key, &METADATA)
                    .absolute(sum);
            } else {
                self.recorder.register_gauge(&key, &METADATA).set(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_survive_the_end_of_an_engine() {
        let metrics = Metrics::default();
        let mut snapshot = EngineSnapshot::default();
        snapshot.n_running = 2;
        snapshot.n_written = 7;
        let line = r#"hearth_completion_tokens_total{model="m"} 7"#;
        assert!(metrics.render(&[("m".into(), snapshot)]).contains(line));
        metrics.ended("m", &snapshot);
        let text = metrics.render(&[]);
        assert!(text.contains(line), "{text}");
        assert!(text.contains(r#"hearth_running{model="m"} 0"#), "{text}");
        let text = metrics.render(&[("m".into(), snapshot)]);
        assert!(
            text.contains(r#"hearth_completion_tokens_total{model="m"} 14"#),
            "{text}"
        );
    }

    #[test]
    fn times_fall_into_buckets() {
        let metrics = Metrics::default();
        metrics.first_token("m", Duration::from_millis(300));
        metrics.answered("/v1/models", 200, Duration::from_millis(1));
        let text = metrics.render(&[]);
        for line in [
            r#"hearth_first_token_seconds_bucket{model="m",le="0.25"} 0"#,
            r#"hearth_first_token_seconds_bucket{model="m",le="0.5"} 1"#,
            r#"hearth_requests_total{route="/v1/models",status="200"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
