//! Prints how each rule does on each load, as Markdown; `--story TRACE` tells what Herd's rule did and why, `--plot FOLDER`
//! draws each load.

#![allow(clippy::print_stdout)]

use std::env;
use std::fs;
use std::io;
use std::path::Path;

use herd_bench_scaling::plot::{Line, svg};
use herd_bench_scaling::{Run, Score, Trace, rules, run, traces};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => traces().iter().for_each(table),
        ["--story", name] => traces().iter().filter(|trace| trace.name == name).for_each(story),
        ["--plot", folder] => {
            fs::create_dir_all(folder)?;
            for trace in traces() {
                plot(&trace, Path::new(folder))?;
            }
        }
        _ => println!("scaling [--story TRACE | --plot FOLDER]"),
    }
    Ok(())
}

fn runs(trace: &Trace, make: rules::Make) -> Vec<Run> {
    SEEDS.map(|seed| run(trace, make(trace).as_mut(), seed)).collect()
}

fn table(trace: &Trace) {
    println!("\n### {}: {}\n", trace.name, trace.story);
    println!(
        "| rule | p50 s | p95 s | p99 s | drained after s | s over goal | pod-s over | pod-s under | changes | reversals | partition-s still |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let oracle = runs(trace, rules::ALL[0].1);
    for (name, make) in rules::ALL {
        let runs = runs(trace, make);
        let mean = |of: &dyn Fn(&Score) -> f64| {
            runs.iter().map(|run| of(&run.score)).sum::<f64>() / runs.len() as f64
        };
        let against = |part: fn((u64, u64)) -> u64| {
            let each = runs.iter().zip(&oracle).map(|(run, best)| part(run.score.against(&best.score)));
            each.sum::<u64>() as f64 / runs.len() as f64
        };
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} |",
            mean(&|score| score.delay(0.5) as f64),
            mean(&|score| score.delay(0.95) as f64),
            mean(&|score| score.delay(0.99) as f64),
            mean(&|score| score.late_until.saturating_sub(trace.begins) as f64),
            mean(&|score| score.over_goal as f64),
            against(|(over, _)| over),
            against(|(_, under)| under),
            mean(&|score| score.changes.len() as f64),
            mean(&|score| score.reversals() as f64),
            mean(&|score| score.still as f64),
        );
    }
}

fn story(trace: &Trace) {
    let run = run(trace, rules::ALL[1].1(trace).as_mut(), 1);
    println!("{}: {}", trace.name, trace.story);
    for (second, words) in run.story {
        println!("{:>3}:{:02}  {words}", second / 60, second % 60);
    }
}

fn plot(trace: &Trace, folder: &Path) -> io::Result<()> {
    let shown =
        [("herd", "#0b7a4b"), ("keda, tuned", "#c4501b"), ("numaflow", "#7a4bc4"), ("oracle", "#888888")];
    let runs = shown.map(|(name, colour)| {
        let make =
            rules::ALL.iter().find(|(other, _)| *other == name).map_or(rules::ALL[0].1, |(_, make)| *make);
        (name, colour, run(trace, make(trace).as_mut(), 1))
    });
    let lines: Vec<Line<'_>> = runs.iter().map(|(name, colour, run)| Line { name, colour, run }).collect();
    fs::write(folder.join(format!("{}.svg", trace.name)), svg(trace.story, &lines))
}
