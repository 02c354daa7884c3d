//! Line charts as SVG files: what was measured, over what, and on which machine.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use crate::{machine, runs::grouped};

/// Where they are written.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/charts");

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
/// The plot itself; the legend stands to its right.
const LEFT: f64 = 95.0;
const RIGHT: f64 = 680.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 380.0;

/// Told apart by people who see few colours, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    label: &'static str,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// From zero.
    Linear,
    Logarithmic,
}

impl Axis {
    pub(crate) const fn linear(label: &'static str) -> Self {
        Self { label, scale: Scale::Linear }
    }

    pub(crate) const fn logarithmic(label: &'static str) -> Self {
        Self { label, scale: Scale::Logarithmic }
    }
}

pub(crate) struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    pub(crate) fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points }
    }
}

pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

impl Chart {
    /// Writes the picture to `benches/charts/{name}.svg`.
    pub(crate) fn write(&self, name: &str) -> Result<()> {
        fs::create_dir_all(FOLDER)?;
        let path = Path::new(FOLDER).join(format!("{name}.svg"));
        fs::write(&path, self.svg()?).with_context(|| format!("write {}", path.display()))?;
        println!("chart: {}", path.display());
        Ok(())
    }

    fn svg(&self) -> Result<String> {
        let x = Ruler::across(self.x, self.lines.iter().flat_map(|line| &line.points).map(|p| p.0));
        let y = Ruler::up(self.y, self.lines.iter().flat_map(|line| &line.points).map(|p| p.1));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let middle = f64::midpoint(LEFT, RIGHT);
        text(&mut svg, (LEFT, 34.0), "font-size=\"18\" font-weight=\"bold\"", &self.title)?;
        text(&mut svg, (middle, BOTTOM + 44.0), "text-anchor=\"middle\"", self.x.label)?;
        let (turn_x, turn_y) = (22.0, f64::midpoint(TOP, BOTTOM));
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {turn_x} {turn_y})\"");
        text(&mut svg, (turn_x, turn_y), &turned, self.y.label)?;
        let small = "font-size=\"11\" fill=\"#666\"";
        text(&mut svg, (LEFT, HEIGHT - 14.0), small, &machine::describe())?;
        for value in &x.ticks {
            let at = x.place(*value);
            rule(&mut svg, (at, TOP), (at, BOTTOM))?;
            text(&mut svg, (at, BOTTOM + 20.0), "text-anchor=\"middle\"", &tick(*value))?;
        }
        for value in &y.ticks {
            let at = y.place(*value);
            rule(&mut svg, (LEFT, at), (RIGHT, at))?;
            text(&mut svg, (LEFT - 8.0, at + 4.0), "text-anchor=\"end\"", &tick(*value))?;
        }
        let mut legend_y = TOP + 12.0;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            line.draw(&mut svg, colour, &x, &y)?;
            rule_in(&mut svg, colour, (RIGHT + 20.0, legend_y), (RIGHT + 44.0, legend_y))?;
            text(&mut svg, (RIGHT + 52.0, legend_y + 4.0), "", &line.name)?;
            legend_y += 24.0;
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

impl Line {
    fn draw(&self, svg: &mut String, colour: &str, x: &Ruler, y: &Ruler) -> Result<()> {
        let places: Vec<(f64, f64)> =
            self.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        )?;
        // Where there are many, they would hide the line.
        if places.len() <= 20 {
            for (x, y) in places {
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>")?;
            }
        }
        Ok(())
    }
}

/// Where values lie along an axis.
struct Ruler {
    scale: Scale,
    /// The lowest value's place, and the highest's.
    ends: [(f64, f64); 2],
    ticks: Vec<f64>,
}

impl Ruler {
    /// A tick for each value that was measured, where they are few.
    fn across(axis: Axis, values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (lowest, highest) = ends_of(&values);
        if values.len() > 9 {
            return Self::new(Scale::Linear, (0.0, highest), (LEFT, RIGHT));
        }
        let lowest = if axis.scale == Scale::Linear { 0.0 } else { lowest };
        Self { scale: axis.scale, ends: [(lowest, LEFT), (highest, RIGHT)], ticks: values }
    }

    fn up(axis: Axis, values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let lowest = values.iter().copied().fold(highest, f64::min);
        Self::new(axis.scale, (lowest, highest), (BOTTOM, TOP))
    }

    /// Between round numbers.
    fn new(scale: Scale, (lowest, highest): (f64, f64), places: (f64, f64)) -> Self {
        let ticks = match scale {
            Scale::Linear => {
                let magnitude = 10_f64.powf(highest.log10().floor());
                let steps = [0.1, 0.2, 0.5, 1.0, 2.0].map(|step| step * magnitude);
                let step = steps.into_iter().find(|step| highest / step <= 8.0);
                multiples(step.unwrap_or(magnitude), highest)
            }
            Scale::Logarithmic => decades(lowest, highest),
        };
        let (low, high) = ends_of(&ticks);
        Self { scale, ends: [(low, places.0), (high, places.1)], ticks }
    }

    fn place(&self, value: f64) -> f64 {
        let [(low, from), (high, to)] = self.ends;
        let share = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Logarithmic => (value.max(low) / low).ln() / (high / low).ln(),
        };
        // A single value has no length.
        from + (to - from) * if share.is_finite() { share } else { 0.0 }
    }
}

fn ends_of(sorted: &[f64]) -> (f64, f64) {
    (sorted.first().copied().unwrap_or_default(), sorted.last().copied().unwrap_or_default())
}

/// From zero to the first that is not less than `highest`.
fn multiples(step: f64, highest: f64) -> Vec<f64> {
    let mut ticks = vec![0.0];
    for times in 1..=20_u32 {
        if ticks.last().is_some_and(|last| *last >= highest) {
            break;
        }
        ticks.push(step * f64::from(times));
    }
    ticks
}

/// Powers of ten around the values.
fn decades(lowest: f64, highest: f64) -> Vec<f64> {
    let mut ticks = vec![10_f64.powf(lowest.log10().floor())];
    while let Some(last) = ticks.last().filter(|last| **last < highest) {
        ticks.push(last * 10.0);
    }
    ticks
}

fn tick(value: f64) -> String {
    if value >= 1.0 && value.fract() == 0.0 || value >= 100.0 {
        return grouped(value);
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) -> Result<()> {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>"
    )?;
    Ok(())
}

fn rule_in(svg: &mut String, colour: &str, from: (f64, f64), to: (f64, f64)) -> Result<()> {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"3\"/>"
    )?;
    Ok(())
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, text: &str) -> Result<()> {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>")?;
    Ok(())
}
