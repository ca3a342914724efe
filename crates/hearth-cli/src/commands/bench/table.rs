//! The figures for people.

use super::compare::{BatchRatio, Comparison};
use super::report::{BatchSpeed, OpSpeed, Report, Speed};
use crate::failure::one_line;
use crate::printer;

/// One measured kind of work.
struct Line<'a> {
    what: String,
    speed: &'a Speed,
    ratio: Option<f64>,
}

/// The whole report.
pub fn people(report: &Report, comparison: Option<&Comparison>) -> String {
    let lines = lines(report, comparison);
    let mut text = heading(report);
    text += &speeds(&lines, comparison.is_some());
    for line in lines.iter().filter(|line| !line.speed.ops.is_empty()) {
        text += &format!("\n{}:\n{}", line.what, operations(&line.speed.ops));
    }
    text += &footing(report);
    if let Some(comparison) = comparison {
        text += &format!("compared with {}", one_line(&comparison.file));
        for note in &comparison.notes {
            text += &format!("; {}", one_line(note));
        }
        text += "\n";
    }
    text
}

fn heading(report: &Report) -> String {
    let depth = match report.depth {
        0 => String::new(),
        depth => format!(", after {depth} tokens"),
    };
    format!(
        "{} ({}), {} threads, level {}, kv {}{depth}, median of {}\n\n",
        report
            .name
            .as_deref()
            .map_or(report.model.clone(), one_line),
        printer::bytes(report.file_bytes),
        report.threads,
        report.level,
        report.kv,
        report.reps
    )
}

fn lines<'a>(report: &'a Report, comparison: Option<&Comparison>) -> Vec<Line<'a>> {
    let line = |what: &str, speed: &'a Option<Speed>, ratio: Option<f64>| {
        let what = what.to_owned();
        speed.as_ref().map(|speed| Line { what, speed, ratio })
    };
    let mut all = vec![
        line(
            "read",
            &report.pp,
            comparison.and_then(|comparison| comparison.pp),
        ),
        line(
            "write",
            &report.tg,
            comparison.and_then(|comparison| comparison.tg),
        ),
    ];
    for (index, batch) in report.batch.iter().enumerate() {
        let of = comparison.and_then(|comparison| comparison.batch.get(index));
        let ratio = |pick: fn(&BatchRatio) -> Option<f64>| of.and_then(pick);
        let who = sequences(batch);
        all.push(line(&format!("{who} read"), &batch.pp, ratio(|of| of.pp)));
        all.push(line(&format!("{who} write"), &batch.tg, ratio(|of| of.tg)));
        all.push(line(
            "  a prompt beside",
            &batch.beside_pp,
            ratio(|of| of.beside_pp),
        ));
    }
    all.into_iter().flatten().collect()
}

fn sequences(batch: &BatchSpeed) -> String {
    let ragged = if batch.ragged { "ragged " } else { "" };
    format!("{} {ragged}sequences", batch.sequences)
}

fn speeds(lines: &[Line<'_>], has_ratio: bool) -> String {
    let n_columns = if has_ratio { 6 } else { 5 };
    let row = |line: &Line<'_>| {
        let speed = line.speed;
        let mut cells = vec![
            line.what.clone(),
            speed.tokens.to_string(),
            format!("{:.1}", speed.tok_s),
            format!("{:.1} to {:.1}", speed.tok_s_min, speed.tok_s_max),
            percent(speed.limit_share),
        ];
        if has_ratio {
            cells.push(line.ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")));
        }
        cells
    };
    let header = ["", "tokens", "tokens/s", "spread", "% of limit", "ratio"];
    let right = [false, true, true, true, true, true];
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    printer::table(&header[..n_columns], &right[..n_columns], &rows)
}

fn operations(ops: &[OpSpeed]) -> String {
    let row = |op: &OpSpeed| {
        vec![
            one_line(&op.op),
            op.runs.to_string(),
            format!("{:.2}", op.ms),
            format!("{:.1}", 100.0 * op.share),
            percent(op.limit_share),
        ]
    };
    let rows: Vec<Vec<String>> = ops.iter().map(row).collect();
    printer::table(
        &["operation", "runs", "ms", "% of time", "% of limit"],
        &[false, true, true, true, true],
        &rows,
    )
}

fn footing(report: &Report) -> String {
    let mut text = String::from("\n");
    if let Some(limits) = &report.limits {
        let int8 = limits
            .int8_g_s
            .map_or("-".into(), |rate| format!("{rate:.0}"));
        let read = limits
            .read_gb_s
            .map_or("-".into(), |rate| format!("{rate:.1}"));
        text += &format!(
            "limits here: {int8} G int8 and {:.0} G f32 multiply-adds/s, {read} GB/s of weights\n",
            limits.float_g_s
        );
    }
    text += &format!(
        "ready after {:.0} ms, first token after {:.0} ms",
        report.load_ms, report.first_token_ms
    );
    if let Some(peak) = report.peak_rss_bytes {
        text += &format!(", at most {} of memory", printer::bytes(peak));
    }
    text + "\n"
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}
