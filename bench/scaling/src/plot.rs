//! Lag and replicas of a run as SVG.

use std::fmt::Write;

use crate::run::Run;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 130.0;
const LEFT: f64 = 70.0;

/// One rule's line in a plot.
pub struct Line<'a> {
    /// The rule's name.
    pub name: &'a str,
    /// A colour that stands out from the others on white and on black.
    pub colour: &'a str,
    /// What it did.
    pub run: &'a Run,
}

/// Two panels, replicas above lag, over the same time.
#[must_use]
pub fn svg(title: &str, lines: &[Line<'_>]) -> String {
    let seconds = lines.iter().map(|line| line.run.lag.len()).max().unwrap_or(1).max(1);
    let full = LEFT + WIDTH + 10.0;
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full} 370\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{title}</text>\n"
    );
    let mut x = LEFT;
    for line in lines {
        // Writing to a `String` cannot fail, here and below.
        let _ = writeln!(page, "<text x=\"{x}\" y=\"34\" fill=\"{}\">{}</text>", line.colour, line.name);
        x += 12.0 + 7.5 * line.name.len() as f64;
    }
    panel(&mut page, 45.0, "replicas", lines, |run| run.score.pods.iter().map(|n| f64::from(*n)).collect());
    panel(&mut page, 205.0, "lag, records", lines, |run| run.lag.iter().map(|lag| *lag as f64).collect());
    for minute in (0..=seconds / 60).step_by(10) {
        let x = LEFT + WIDTH * (minute * 60) as f64 / seconds as f64;
        let _ = writeln!(page, "<text x=\"{x:.0}\" y=\"352\" text-anchor=\"middle\">{minute} min</text>");
    }
    page.push_str("</svg>\n");
    page
}

fn panel(page: &mut String, top: f64, label: &str, lines: &[Line<'_>], of: impl Fn(&Run) -> Vec<f64>) {
    let all: Vec<Vec<f64>> = lines.iter().map(|line| of(line.run)).collect();
    let most = all.iter().flatten().copied().fold(1.0, f64::max);
    let bottom = top + HEIGHT;
    let right = LEFT + WIDTH;
    let _ = writeln!(
        page,
        "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"#666\">{label}</text>\n\
         <path d=\"M{LEFT} {bottom}H{right}\" stroke=\"#999\"/>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#666\">{most:.0}</text>\n\
         <text x=\"{:.0}\" y=\"{bottom}\" text-anchor=\"end\" fill=\"#666\">0</text>",
        top + 10.0,
        LEFT - 6.0,
        top + 22.0,
        LEFT - 6.0,
    );
    for (line, values) in lines.iter().zip(&all) {
        let mut path = String::new();
        let mut before = None;
        for (second, value) in values.iter().enumerate().filter(|(second, _)| second.is_multiple_of(10)) {
            if before == Some(*value) && second + 10 < values.len() {
                continue;
            }
            let x = LEFT + WIDTH * second as f64 / values.len() as f64;
            let y = bottom - (HEIGHT - 15.0) * value / most;
            let _ = match before {
                None => write!(path, "M{x:.0} {y:.0}"),
                Some(_) => write!(path, "H{x:.0}V{y:.0}"),
            };
            before = Some(*value);
        }
        let _ = writeln!(
            page,
            "<path d=\"{path}H{right}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            line.colour
        );
    }
}
