//! Figures as JSON, as a table, and as one page with plots that needs nothing else. Knows no figure and no goal.

use serde_json::{Value, json};
use std::fmt::Write;

/// One figure of one contestant on one kernel ("": outside of a VM).
pub struct Figure {
    pub kernel: String,
    pub name: String,
    pub who: String,
    pub samples: Vec<f64>,
}

impl Figure {
    pub fn of(kernel: &str, name: &str, who: &str, samples: Vec<f64>) -> Self {
        Self { kernel: kernel.into(), name: name.into(), who: who.into(), samples }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let at = |n: usize| sorted.get(n).copied().unwrap_or(f64::NAN);
        (at((sorted.len().max(1) - 1) / 2) + at(sorted.len() / 2)) / 2.0
    }

    pub fn worst(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }

    pub fn best(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    pub fn json(&self) -> Value {
        json!({"kernel": self.kernel, "figure": self.name, "who": self.who, "samples": self.samples,
               "median": self.median(), "least": self.best(), "most": self.worst()})
    }
}

/// Three digits that count, or a whole number.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.2} M", value / 1e6),
        v if v >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// What it should be; some are only told.
fn limit(goal: &Value) -> String {
    let sign = if goal["at_least"] == true { "≥" } else { "≤" };
    goal["limit"].as_f64().map(|limit| format!("{sign} {}", short(limit))).unwrap_or_default()
}

/// What it is, with the spread of the samples where that is known.
fn value(goal: &Value) -> String {
    let number = |key: &str| goal[key].as_f64();
    let value = short(number("value").unwrap_or(f64::NAN));
    match (number("least"), number("most"), number("n")) {
        (Some(least), Some(most), Some(n)) => {
            format!("{value} ({} to {}, n = {n})", short(least), short(most))
        }
        _ => value,
    }
}

/// A class of the page's, and a word.
fn verdict(goal: &Value) -> (&'static str, &'static str) {
    match goal["holds"].as_bool() {
        Some(true) => ("", "holds"),
        Some(false) => ("missed", "missed"),
        None => ("", ""),
    }
}

/// The goals as a table in Markdown.
pub fn table(goals: &[Value]) -> String {
    let mut out = String::from("| kernel | what | goal | measured | |\n|---|---|---|---|---|\n");
    for goal in goals {
        let (_, holds) = verdict(goal);
        let text = |key: &str| goal[key].as_str().unwrap_or_default().to_owned();
        let value = value(goal);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {value} | {holds} |",
            text("kernel"),
            text("goal"),
            limit(goal)
        );
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The page.
pub fn html(machine: &str, figures: &[Figure], goals: &[Value]) -> String {
    let mut out = format!(
        "<!doctype html><meta charset=utf-8><title>efs-agent: bench</title><style>body{{font:15px sans-serif;max-width:60em;\
         margin:2em auto;padding:0 1em}}td,th{{text-align:left;padding:.2em .8em;border-bottom:1px solid #ddd}}table{{border-collapse:\
         collapse}}.missed{{color:#b00}}svg text{{font:12px sans-serif}}</style><h1>efs-agent, measured</h1><p>{}. Emulation inflates \
         milliseconds: compare within a plot.</p><h2>Goals</h2><table><tr><th>kernel<th>what<th>goal<th>measured<th>\n",
        escaped(machine)
    );
    for goal in goals {
        let (class, word) = verdict(goal);
        let text = |key: &str| escaped(goal[key].as_str().unwrap_or_default());
        let value = value(goal);
        let (kernel, what) = (text("kernel"), text("goal"));
        let _ = writeln!(
            out,
            "<tr class='{class}'><td>{kernel}<td>{what}<td>{}<td>{value}<td>{word}",
            limit(goal)
        );
    }
    out.push_str("</table>\n");
    let mut names: Vec<&str> = Vec::new();
    for figure in figures {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    for name in names {
        let of: Vec<&Figure> = figures.iter().filter(|f| f.name == name).collect();
        let _ = writeln!(out, "<h2>{}</h2>\n{}", escaped(name), plot(&of));
    }
    out
}

/// A row for each contestant: a dot for each sample, a bar at the median, and the median in figures.
fn plot(figures: &[&Figure]) -> String {
    const LEFT: f64 = 260.0;
    const WIDTH: f64 = 480.0;
    let most = figures.iter().map(|f| f.worst()).fold(f64::MIN_POSITIVE, f64::max);
    let height = figures.len() * 22 + 8;
    let mut out = format!("<svg width=880 height={height} role=img>");
    for (row, figure) in figures.iter().enumerate() {
        let y = row as f64 * 22.0 + 15.0;
        let x = |value: f64| LEFT + value / most * WIDTH;
        let label = format!("{} {}", figure.who, figure.kernel);
        let _ = write!(
            out,
            "<text x={} y={} text-anchor=end>{}</text><line x1={LEFT} x2={} y1={y} y2={y} stroke='#eee'/>",
            LEFT - 8.0,
            y + 4.0,
            escaped(&label),
            LEFT + WIDTH
        );
        for sample in &figure.samples {
            let _ = write!(
                out,
                "<circle cx={:.1} cy={y} r=3 fill='#3572b0' fill-opacity=.4 />",
                x(*sample)
            );
        }
        let at = x(figure.median());
        let _ = write!(
            out,
            "<line x1={at:.1} x2={at:.1} y1={} y2={} stroke='#000' stroke-width=2 /><text x={} y={}>{} ({} to {}, n = {})</text>",
            y - 7.0,
            y + 7.0,
            LEFT + WIDTH + 10.0,
            y + 4.0,
            short(figure.median()),
            short(figure.best()),
            short(figure.worst()),
            figure.samples.len()
        );
    }
    out + "</svg>"
}
