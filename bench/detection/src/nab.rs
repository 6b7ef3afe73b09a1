//! The score of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015, arXiv:1510.03336; Ahmad et al. 2017, Neurocomputing 262),
//! "standard" profile: within a labelled window the earliest detection counts, the earlier the more; each detection outside counts
//! against the detector, less if it follows a window closely. The threshold is the best one over all series together.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use herd_backtest::Backtest;
use herd_spec::plan::Plan;
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{EventRef, VERSION, Window};
use serde_json::value::RawValue;

/// Weight of a detection outside the windows; a detected and a missed window count 1.
const FALSE_WEIGHT: f64 = 0.11;
/// Length of the windows of the metric, in milliseconds.
const WINDOW: i64 = 300_000;

/// A series with its labelled windows (first and last time).
pub(crate) struct Series {
    /// Its file below `data/`.
    pub(crate) file: String,
    /// Times of its rows as the file has them.
    written: Vec<String>,
    times: Vec<i64>,
    values: Vec<f64>,
    windows: Vec<(i64, i64)>,
}

/// The series of the development half.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Series>> {
    let json = |name: &str| -> anyhow::Result<serde_json::Value> {
        let path = folder.join(name);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    };
    let labels: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_value(json("labels/combined_windows.json")?)?;
    let files: Vec<String> = serde_json::from_value(json("split.json")?["dev"].take())?;
    files.iter().map(|file| series(folder, file, &labels)).collect()
}

fn series(
    folder: &Path,
    file: &str,
    labels: &BTreeMap<String, Vec<(String, String)>>,
) -> anyhow::Result<Series> {
    let path = folder.join("data").join(file);
    let mut reader =
        csv::Reader::from_path(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut written, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record?;
        written.push(record.get(0).unwrap_or_default().to_owned());
        times.push(time(record.get(0).unwrap_or_default())?);
        values.push(record.get(1).unwrap_or_default().parse()?);
    }
    let windows = labels.get(file).with_context(|| format!("{file} has no labels"))?;
    let windows = windows.iter().map(|(from, to)| anyhow::Ok((time(from)?, time(to)?)));
    let mut windows: Vec<(i64, i64)> = windows.collect::<Result<_, _>>()?;
    windows.sort_unstable();
    Ok(Series { file: file.to_owned(), written, times, values, windows })
}

/// Writes the scores of a series as the benchmark's own scorer reads them.
pub(crate) fn write(folder: &Path, series: &Series, scores: &[f64]) -> anyhow::Result<()> {
    let path = folder.join(&series.file);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut writer =
        csv::Writer::from_path(&path).with_context(|| format!("cannot write {}", path.display()))?;
    writer.write_record(["timestamp", "value", "anomaly_score"])?;
    for ((time, value), score) in series.written.iter().zip(&series.values).zip(scores) {
        writer.write_record([time, &value.to_string(), &score.to_string()])?;
    }
    Ok(writer.flush()?)
}

/// A time in UTC, in milliseconds.
fn time(text: &str) -> anyhow::Result<i64> {
    let civil: jiff::civil::DateTime = text.replacen(' ', "T", 1).parse()?;
    Ok(civil.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_millisecond())
}

/// The scores of a series by each detector of `plan`: of each row that of its window, 0 where the detector has none.
pub(crate) fn scores(series: &Series, plan: &Plan) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut by_window: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    let note = |window: &Window<'_>| {
        let score = |detector: &herd_spec::plan::DetectorPlan| {
            let band = window.bands.iter().find(|band| *band.detector == *detector.name.as_str());
            band.map_or(0.0, |band| band.score.abs())
        };
        by_window.insert(window.start.0, plan.detectors.iter().map(score).collect());
    };
    let mut backtest = Backtest::new(plan, note);
    for (row, (time, value)) in series.times.iter().zip(&series.values).enumerate() {
        let (id, properties) = (row.to_string(), format!("{{\"value\":{value}}}"));
        let properties: &RawValue = serde_json::from_str(&properties)?;
        let event = EventRef {
            v: VERSION,
            event_id: id.as_str().into(),
            event_type: "value".into(),
            user_id: Some("series".into()),
            item_id: Some("series".into()),
            time: EventTime(*time),
            received: WallTime(*time),
            properties: Some(properties),
        };
        backtest.push("series", &event)?;
    }
    let end = backtest.end();
    drop(backtest.finish(end)?);
    let row = |detector: usize, time: &i64| {
        by_window.get(&(time.div_euclid(WINDOW) * WINDOW)).map_or(0.0, |scores| scores[detector])
    };
    Ok((0..plan.detectors.len()).map(|n| series.times.iter().map(|time| row(n, time)).collect()).collect())
}

/// Value of a detection at this place relative to a window: near 1 at its beginning, 0 at its end, −1 far behind.
fn sigmoid(y: f64) -> f64 {
    if y > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 }
}

/// What changes when the threshold falls to a score: the total by `change`.
struct Step {
    threshold: f64,
    change: f64,
}

/// The changes of one series, and its number of windows.
fn steps(series: &Series, scores: &[f64], steps: &mut Vec<Step>) -> usize {
    let rows = series.times.len();
    let probation = (rows * 15 / 100).min(750);
    let mut is_outside: Vec<bool> = (0..rows).map(|row| row >= probation).collect();
    // The last window that ended before a row: its last row and its width.
    let mut before: Vec<Option<(usize, usize)>> = vec![None; rows];
    for (from, to) in &series.windows {
        let inside: Vec<usize> =
            (0..rows).filter(|row| (*from..=*to).contains(&series.times[*row])).collect();
        let (Some(left), Some(right)) = (inside.first().copied(), inside.last().copied()) else { continue };
        let width = right - left + 1;
        is_outside[left..=right].fill(false);
        before[right + 1..].fill(Some((right, width)));
        // Rows with a score above all earlier ones of the window: at that threshold they become the earliest detection.
        let mut records: Vec<(f64, f64)> = Vec::new();
        for (row, score) in scores.iter().enumerate().take(right + 1).skip(left.max(probation)) {
            if records.last().is_none_or(|(highest, _)| score > highest) {
                let y = -((right - row + 1) as f64) / width as f64;
                records.push((*score, sigmoid(y) / sigmoid(-1.0)));
            }
        }
        let mut value = -1.0;
        for (threshold, gain) in records.into_iter().rev() {
            steps.push(Step { threshold, change: gain - value });
            value = gain;
        }
    }
    for row in (0..rows).filter(|row| is_outside[*row]) {
        let value = match before[row] {
            None => -1.0,
            Some((right, width)) => sigmoid((row - right) as f64 / (width - 1).max(1) as f64),
        };
        steps.push(Step { threshold: scores[row], change: FALSE_WEIGHT * value });
    }
    series.windows.len()
}

/// The normalised score: 0 for a detector that detects nothing, 100 for one that detects all windows at once and nothing else.
pub(crate) fn score<'s>(all: impl Iterator<Item = (&'s Series, &'s [f64])>) -> f64 {
    let (mut changes, mut windows) = (Vec::new(), 0);
    for (series, scores) in all {
        windows += steps(series, scores, &mut changes);
    }
    changes.sort_by(|a, b| b.threshold.total_cmp(&a.threshold));
    let null = -(windows as f64);
    let (mut total, mut best) = (null, null);
    let mut rest = changes.iter().peekable();
    while let Some(step) = rest.next() {
        total += step.change;
        if rest.peek().is_none_or(|next| next.threshold < step.threshold) {
            best = f64::max(best, total);
        }
    }
    if windows == 0 { 0.0 } else { 100.0 * (best - null) / (2.0 * windows as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 rows with windows at 400..=419 and 800..=819.
    fn series() -> Series {
        let times: Vec<i64> = (0..1000).map(|row| row * WINDOW).collect();
        let window = |row: i64| (row * WINDOW, (row + 19) * WINDOW);
        Series {
            file: "series.csv".into(),
            written: Vec::new(),
            values: vec![0.0; times.len()],
            times,
            windows: vec![window(400), window(800)],
        }
    }

    fn scored(detections: &[(usize, f64)]) -> f64 {
        let series = series();
        let mut scores = vec![0.0; series.times.len()];
        detections.iter().for_each(|(row, score)| scores[*row] = *score);
        score(std::iter::once((&series, scores.as_slice())))
    }

    #[test]
    fn detection_of_all_windows_at_once_scores_100_and_of_none_0() {
        assert!((scored(&[(400, 9.0), (800, 9.0)]) - 100.0).abs() < 1e-9);
        assert_eq!(scored(&[(100, 9.0)]), 0.0, "the first 150 rows do not count, and nothing else is above");
    }

    #[test]
    fn late_and_false_detections_cost() {
        // One window detected in its last row: s(-1/20)/s(-1), the other missed.
        let late = scored(&[(419, 9.0)]);
        let expected = 100.0 * (1.0 + sigmoid(-0.05) / sigmoid(-1.0)) / 4.0;
        assert!((late - expected).abs() < 1e-9, "{late}");
        // The false detection before any window cannot be separated by a threshold.
        let with_false = scored(&[(400, 9.0), (800, 9.0), (300, 9.0)]);
        assert!((with_false - 100.0 * (4.0 - FALSE_WEIGHT) / 4.0).abs() < 1e-9, "{with_false}");
        // Directly behind a window it costs less.
        assert!(scored(&[(400, 9.0), (800, 9.0), (420, 9.0)]) > with_false);
    }
}
