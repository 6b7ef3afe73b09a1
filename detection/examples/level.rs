//! Scores the series of a folder with the rule `level`: `level DATA OUT`.
//!
//! DATA holds `*/*.csv` with the columns `timestamp,value`, as the Numenta Anomaly Benchmark does; OUT gets the same files
//! with the columns `timestamp,value,anomaly_score,cause`. A third argument is the threshold of the episodes.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use herd_detection::level::{Direction, Level, LevelRule};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data, out, ..] = arguments.as_slice() else {
        return Err("usage: level DATA OUT [THRESHOLD]".into());
    };
    let threshold = arguments.get(2).map_or(Ok(3.0), |text| text.parse())?;
    for folder in fs::read_dir(data)? {
        let folder = folder?.path();
        let Some(name) = folder.file_name().filter(|_| folder.is_dir()) else { continue };
        let into = Path::new(out).join(name);
        fs::create_dir_all(&into)?;
        for file in fs::read_dir(&folder)? {
            let file = file?.path();
            if let Some(name) = file.file_name() {
                fs::write(into.join(name), score(&fs::read_to_string(&file)?, threshold)?)?;
            }
        }
    }
    Ok(())
}

/// The rows of a series with their scores.
fn score(csv: &str, threshold: f64) -> Result<String, Box<dyn Error>> {
    let mut rows = Vec::new();
    for line in csv.lines().skip(1) {
        let (time, value) = line.split_once(',').ok_or("a row without a value")?;
        let at = time.parse::<DateTime>()?.to_zoned(TimeZone::UTC)?.timestamp().as_millisecond();
        rows.push((time, u64::try_from(at)?, value.trim().parse::<f64>()?));
    }
    let mut sizes: Vec<u64> = rows.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1)).collect();
    sizes.sort_unstable();
    let size_ms = sizes.get(sizes.len() / 2).copied().unwrap_or(1).max(1);
    let rule = LevelRule { direction: Direction::Both, additive: false, threshold };
    let mut level = Level::default();
    let mut text = String::from("timestamp,value,anomaly_score,cause\n");
    for (time, at, value) in rows {
        let said = level.observe(&rule, at, size_ms, value);
        let cause = said.cause.map_or(String::new(), |cause| format!("{cause:?}"));
        writeln!(text, "{time},{value},{:.5},{cause}", said.score)?;
    }
    Ok(text)
}
