//! The figures of a run, as `--json` prints them and `--compare` reads them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::MachineLimits;
use super::runner::{OpTimes, Times};

/// Everything that one run of `hearth bench` found out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub model: String,
    pub name: Option<String>,
    pub file_bytes: u64,
    pub version: String,
    pub level: String,
    pub threads: usize,
    pub kv: String,
    pub chunk: usize,
    pub reps: usize,
    /// Tokens in the context before measuring began.
    #[serde(default)]
    pub depth: usize,
    pub pp: Option<Speed>,
    pub tg: Option<Speed>,
    #[serde(default)]
    pub batch: Vec<BatchSpeed>,
    #[serde(default)]
    pub limits: Option<MachineLimits>,
    /// From opening the file to being ready for a prompt.
    pub load_ms: f64,
    /// From the start of the process to the first token after a short prompt, reading a cold file included.
    pub first_token_ms: f64,
    pub first_token_prompt: usize,
    /// Share of the file that was in memory before.
    pub file_cached: Option<f32>,
    pub peak_rss_bytes: Option<u64>,
}

/// Speed of one kind of work over the repetitions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Speed {
    pub tokens: usize,
    /// Median.
    pub tok_s: f64,
    pub tok_s_min: f64,
    pub tok_s_max: f64,
    /// Share of the speed that the machine's limits allow for this work.
    #[serde(default)]
    pub limit_share: Option<f64>,
    /// Where the time goes, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<OpSpeed>,
}

/// Speed of sequences that are served together.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchSpeed {
    pub sequences: usize,
    /// Whether their prompts had different lengths.
    pub ragged: bool,
    /// Prompt tokens that each writing step read beside.
    pub beside: usize,
    pub pp: Option<Speed>,
    pub tg: Option<Speed>,
    /// The prompt beside.
    pub beside_pp: Option<Speed>,
}

/// Time of one kind of operation.
#[derive(Debug, Serialize, Deserialize)]
pub struct OpSpeed {
    pub op: String,
    pub runs: u64,
    pub ms: f64,
    /// Share of the whole time.
    pub share: f64,
    /// Share of the speed that the machine's limits allow.
    pub limit_share: Option<f64>,
}

impl Speed {
    /// From the times of `tokens` tokens, without limits.
    pub fn new(tokens: usize, times: &[Duration]) -> Speed {
        let mut speeds: Vec<f64> = times
            .iter()
            .map(|time| tokens as f64 / time.as_secs_f64().max(1e-9))
            .collect();
        speeds.sort_by(f64::total_cmp);
        let middle = speeds.len() / 2;
        let median = if speeds.len() % 2 == 1 {
            speeds[middle]
        } else {
            (speeds[middle - 1] + speeds[middle]) / 2.0
        };
        Speed {
            tokens,
            tok_s: median,
            tok_s_min: speeds[0],
            tok_s_max: speeds[speeds.len() - 1],
            limit_share: None,
            ops: Vec::new(),
        }
    }

    /// With shares of the limits: `least` are the fewest seconds of each operation of the plan.
    pub fn with_limits(tokens: usize, times: &Times, least: &[Option<f64>]) -> Speed {
        let mut speed = Speed::new(tokens, &times.runs);
        let all: Option<f64> = least.iter().copied().sum();
        speed.limit_share = all.map(|seconds| seconds * speed.tok_s / tokens as f64);
        if let Some((whole, kinds)) = &times.ops {
            speed.ops = op_speeds(*whole, kinds, least);
        }
        speed
    }
}

fn op_speeds(whole: Duration, kinds: &[OpTimes], least: &[Option<f64>]) -> Vec<OpSpeed> {
    let whole = whole.as_secs_f64().max(1e-9);
    let op = |kind: &OpTimes| {
        let seconds = kind.time.as_secs_f64();
        let limit: Option<f64> = kind.indices.iter().map(|&index| least[index]).sum();
        OpSpeed {
            op: kind.name.clone(),
            runs: kind.n_runs,
            ms: seconds * 1000.0,
            share: seconds / whole,
            // An operation without work, such as a norm, has no limit to speak of.
            limit_share: limit
                .filter(|&limit| limit > 0.0 && seconds > 0.0)
                .map(|limit| limit / seconds),
        }
    };
    kinds.iter().map(op).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread() {
        let times = [4, 1, 2].map(Duration::from_secs);
        let speed = Speed::new(8, &times);
        assert_eq!(
            (speed.tok_s, speed.tok_s_min, speed.tok_s_max),
            (4.0, 2.0, 8.0)
        );
        assert_eq!(Speed::new(8, &times[..2]).tok_s, 5.0);
    }

    #[test]
    fn shares_of_the_time_and_of_the_limit() {
        let kind = |name: &str, indices: &[usize], seconds| OpTimes {
            name: name.into(),
            indices: indices.to_vec(),
            n_runs: 2,
            time: Duration::from_secs(seconds),
        };
        let times = Times {
            runs: vec![Duration::from_secs(10)],
            ops: Some((
                Duration::from_secs(8),
                vec![kind("matmul", &[0, 2], 6), kind("norm", &[1], 1)],
            )),
        };
        let speed = Speed::with_limits(20, &times, &[Some(1.0), Some(0.0), Some(2.0)]);
        assert_eq!((speed.tok_s, speed.limit_share), (2.0, Some(0.3)));
        assert_eq!(
            (speed.ops[0].share, speed.ops[0].limit_share),
            (0.75, Some(0.5))
        );
        assert_eq!(
            (speed.ops[1].share, speed.ops[1].limit_share),
            (0.125, None)
        );
        let unknown = Speed::with_limits(20, &times, &[None, Some(0.0), Some(2.0)]);
        assert_eq!(
            (unknown.limit_share, unknown.ops[0].limit_share),
            (None, None)
        );
    }
}
